"""Selects the ten key numbers of a run for `metrics/<dataset>/summary.json`.

Reads the content of `evaluate.json`; returns the verdict and ten numbers, null if a number was not measured.
"""

from collections.abc import Mapping
from typing import Any

from modeling.evaluation.explanation_findings import explanation_scores
from modeling.evaluation.verdict import best_baseline, main_prompt


def summary_numbers(results: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the verdict and the ten key numbers."""
    sequential_key, direct_key = main_prompt(results, "sequential"), main_prompt(results, "direct")
    sequential, direct, baselines = results["sequential"], results["direct"], results["baselines"]
    best = {task: best_baseline(results, task) for task in ("sequential", "direct")}
    cold = sequential.get(sequential_key, {}).get("slices", {}).get("target_in_train", {}).get("cold", {})
    bleu, baseline_bleu = explanation_scores(results)
    return {
        "verdict": list(results.get("verdict", [])),
        "next_item_hr10": sequential.get(sequential_key, {}).get("hr@10"),
        "next_item_held_out_hr10": sequential.get("A-9", {}).get("hr@10"),
        "next_item_no_photos_hr10": results.get("sequential_without_photos", {}).get(sequential_key, {}).get("hr@10"),
        "next_item_baseline_hr10": baselines["sequential"].get(best["sequential"], {}).get("hr@10"),
        "candidates_hr10": direct.get(direct_key, {}).get("hr@10"),
        "candidates_baseline_hr10": baselines["direct"].get(best["direct"], {}).get("hr@10"),
        "explanation_bleu4": bleu,
        "explanation_baseline_bleu4": baseline_bleu,
        "cold_items_hr10": cold.get("hr@10"),
        "leaks": int(results["leakage"]["leaking"]),
    }
