"""The ten numbers of a run that a person compares, as `metrics/<dataset>/summary.json` holds them.

Enters: the content of `evaluate.json`. Leaves: a small mapping, null where there is no number.
Trade-off: ten numbers and a verdict; everything else stays in `evaluate.json`.
"""

from collections.abc import Mapping
from typing import Any


def summary_numbers(results: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict and the ten numbers."""

    def value(*path: str) -> float | None:
        found: Any = results
        for name in path:
            found = found.get(name) if isinstance(found, Mapping) else None
        return None if found is None else float(found)

    def baseline(family: str) -> float | None:
        found = [block["hr@10"] for name, block in results["baselines"].get(family, {}).items() if name != "random"]
        return max(found, default=None)

    return {
        "verdict": list(results.get("verdict", [])),
        "next_item_hr10": value("sequential", "A-3", "hr@10"),
        "next_item_held_out_hr10": value("sequential", "A-9", "hr@10"),
        "next_item_no_photos_hr10": value("sequential_without_photos", "A-3", "hr@10"),
        "next_item_baseline_hr10": baseline("sequential"),
        "candidates_hr10": value("direct", "B-5:history", "hr@10"),
        "candidates_baseline_hr10": baseline("direct"),
        "explanation_bleu4": value("explanation", "C-12", "bleu4"),
        "explanation_baseline_bleu4": None,
        "cold_items_hr10": None,
        "leaks": int(results["leakage"]["leaking"]),
    }
