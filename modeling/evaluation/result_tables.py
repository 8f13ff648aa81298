"""Formats results as table rows and lines: models and baselines per family, explanations, differences, leakage rules.

Reads the content of `evaluate.json`; returns plain strings, which the model page and the terminal share.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from modeling.evaluation.explanation_findings import SENTENCE_BASELINES
from modeling.evaluation.verdict import BASELINES, undertrained

Block = Mapping[str, Any]
TEXT_TITLES = {
    "bleu4": "bleu-4", "rouge1": "rouge-1", "rouge2": "rouge-2", "rougeL": "rouge-l", "distinct2": "distinct-2",
    "distinct_sentences": "different sentences", "empty": "empty", "feature_match": "feature",
}  # fmt: skip


def family_title(results: Block, family: str) -> str:
    """Returns the title of a family's table, with the run's number of candidates.

    Example: "Which of 19 candidates"
    """
    count = results.get("num_candidates", {}).get(family)
    return {
        "sequential": "Next item, whole catalogue",
        "direct": f"Which of {count:,} candidates" if count else "Which of the candidates",
        "direct_popular": f"Which of {count:,} candidates, sampled by popularity"
        if count
        else "Candidates sampled by popularity",
        "direct_whole": "Direct prompts, whole catalogue",
        "explanation": "Explanations (percent)",
    }[family]


def leaks_of(results: Block, family: str) -> list[str]:
    """Returns why a family leaks; empty if it does not. `direct_whole` and `direct_popular` belong to `direct`."""
    reasons: list[str] = results["leakage"][family.partition("_")[0]]["reasons"]
    return reasons


def undertrained_lines(results: Block) -> list[str]:
    """Returns one line per undertrained baseline.

    Example: "Undertrained baseline SASRec: training ended at its limit of seconds while the valid split still rose"
    """
    return [f"Undertrained baseline {BASELINES[name]}: {'; '.join(why)}" for name, why in undertrained(results).items()]


def family_rows(results: Block, family: str, columns: Sequence[str]) -> list[list[str]]:
    """Returns one row per model and prompt, then one per baseline: the value of each column with its 95 % interval."""
    rows = []
    for key, block in results.get(family, {}).items():
        rows.append([f"VIP5 {key}", *_cells(block, columns)])
        for title, blocks in (
            ("without photos", results.get(f"{family}_without_photos", {})),
            ("text-only backbone", results.get("backbone", {}).get(family, {})),
        ):
            if key in blocks:
                rows.append([f"{title} {key}", *_cells(blocks[key], columns)])
    weak = undertrained(results)
    for name, title in BASELINES.items():
        if rows and name in results["baselines"][family]:
            shown = f"{title}, undertrained baseline" if name in weak else title
            rows.append([shown, *_cells(results["baselines"][family][name], columns)])
    return rows


def _cells(block: Block, columns: Sequence[str]) -> list[str]:
    limits = block.get("ci95", {})
    return [
        f"{block[name]:.4f}" + (f" [{limits[name][0]:.4f}, {limits[name][1]:.4f}]" if name in limits else "")
        for name in columns
    ]


def explanation_rows(results: Block) -> list[list[str]]:
    """Returns one row per model and explanation prompt, fewest given fields first, then one per sentence baseline.

    The cells are `TEXT_TITLES` in percent. The row name lists the fields of the target review that the prompt contains,
    such as "VIP5 C-12 (given feature, rating)", and marks baselines that know the feature word.
    """
    rows: list[tuple[int, list[str]]] = []
    for title, blocks in (("VIP5", results["explanation"]), ("text-only backbone", results["backbone"]["explanation"])):
        for key, block in blocks.items():
            if block["num_examples"]:
                given = f" (given {', '.join(block['given'])})" if block["given"] else ""
                rows.append((len(block["given"]), [f"{title} {key}{given}", *_text_cells(block)]))
    baselines = _baseline_rows("", results["baselines"].get("explanation", {}))
    for key, block in results["explanation"].items():
        baselines += _baseline_rows(f" ({key})", block.get("baselines", {}))
    return [*(row for _, row in sorted(rows, key=lambda ranked: ranked[0])), *baselines]


def _baseline_rows(prompt: str, blocks: Block) -> list[list[str]]:
    rows = []
    for name, block in blocks.items():
        hint = " (knows the feature)" if block["hinted"] else ""
        rows.append([f"baseline: {SENTENCE_BASELINES[name]}{hint}{prompt}", *_text_cells(block)])
    return rows


def _text_cells(block: Block) -> list[str]:
    """Returns `TEXT_TITLES` in percent, with the 95 % interval where there is one."""
    limits = block.get("ci95", {})
    return [
        f"{block.get(name, 0.0):.2f}" + (f" [{limits[name][0]:.2f}, {limits[name][1]:.2f}]" if name in limits else "")
        for name in TEXT_TITLES
    ]


def reference_rows(results: Block, family: str, columns: Sequence[str]) -> list[list[str]]:
    """Returns one row per prompt with VIP5's metrics as the reference implementation computes them; empty without."""
    blocks = results.get("reference_implementation", {}).get(family, {})
    digits = 2 if family == "explanation" else 4
    return [
        [f"VIP5 {key}", *(f"{block[name]:.{digits}f}" for name in columns)]
        for key, block in blocks.items()
        if columns[0] in block
    ]


def difference_lines(results: Block) -> list[str]:
    """Returns one line per main comparison: VIP5 against the best baseline and against VIP5 without photos."""
    lines: list[str] = []
    for family, metric in (("sequential", "hr@10"), ("direct", "hr@10")):
        for key, block in results[family].items():
            gaps = {name: gap[metric] for name, gap in block["differences"].items() if metric in gap}
            others = {name: gap[0] for name, gap in gaps.items() if name in BASELINES}
            names = [min(others, key=others.__getitem__)] if others else []
            names += [name for name in ("without_photos",) if name in gaps]
            lines += [
                f"VIP5 {key} minus {name.replace('_', ' ')}, {metric.upper()}: {_gap(gaps[name])}" for name in names
            ]
    return lines


def number_rule_line(leakage: Block) -> str:
    """Returns the result of the number rule as one line.

    Example: "number rule (largest number in the history + 1): HR@1 0.0654, HR@10 0.0790 \N{EM DASH} LEAKS (p5)"
    """
    verdict = "LEAKS" if leakage["numbers_leak"] else "no leak detected"
    return (
        f"number rule (largest number in the history + 1): HR@1 {leakage['number_rule_hr@1']:.4f}, "
        f"HR@10 {leakage['number_rule_hr@10']:.4f} \N{EM DASH} {verdict} ({leakage['numbering']})"
    )


def user_numbers_line(leakage: Block) -> str:
    """Returns the result of the user-neighbour rule as one line.

    Example: "user neighbours (items of the nearest user numbers): HR@10 0.0699, by chance 0.0022 \N{EM DASH} LEAKS"
    """
    verdict = "LEAKS" if leakage["user_numbers_leak"] else "no leak detected"
    return (
        f"user neighbours (items of the nearest user numbers): HR@10 {leakage['user_neighbours_hr@10']:.4f}, "
        f"by chance {leakage['user_neighbours_chance_hr@10']:.4f} \N{EM DASH} {verdict}"
    )


def _gap(gap: Sequence[float]) -> str:
    mean, low, high = gap
    word = "better" if low > 0 else "worse" if high < 0 else "no clear difference"
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}] {word}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Formats rows as text lines with columns padded to equal width and the first row underlined.

    Example:
        >>> aligned([["a", "b"], ["long", "1"]])
        ['a     b', '----  -', 'long  1']
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]
