"""`python -m modeling.summary`: the results of the last evaluation as one short table, and where the reports lie.

Enters: `metrics/<dataset>/evaluate.json`. Leaves: lines on standard output. Trade-off: plain columns, so that the table
can be pasted anywhere.
"""

import argparse
import json
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from features.errors import InputError, VIP5Error
from features.params import load_yaml
from features.stage import Places, configure_logging

Block = Mapping[str, Any]
_TITLES = {
    "sasrec": "SASRec (softmax)", "ridge": "ridge regression (EASE)", "item_knn": "item k-nearest neighbours",
    "title_bm25": "titles, BM25",
    "title_embedding": "titles, nearest features", "photo_embedding": "photos, nearest features",
    "popularity": "popularity", "recent_popularity": "recent popularity",
    "random": "random", "number_rule": "number rule (largest + 1)",
}  # fmt: skip

TEXT_TITLES = {
    "bleu4": "bleu-4", "rouge1": "rouge-1", "rouge2": "rouge-2", "rougeL": "rouge-l", "distinct2": "distinct-2",
    "feature_match": "feature",
}  # fmt: skip


def summary_lines(results: Block, places: Places) -> list[str]:
    """The lines to print, from the content of `evaluate.json`."""
    lines = [f"{results['dataset']}: {results['num_users']:,} users, {results['num_items']:,} items, test split", ""]
    tables = (
        ("sequential", "sequential (whole catalogue)", ("hr@10", "ndcg@10")),
        ("direct", "direct (100 candidates)", ("hr@1", "hr@5", "hr@10")),
        ("direct_popular", "direct (100, drawn by popularity)", ("hr@1", "hr@5", "hr@10")),
        ("direct_whole", "direct (whole catalogue)", ("hr@1", "hr@5", "hr@10")),
    )
    mark = "LEAKING " if results["leakage"]["leaking"] else ""
    for family, title, columns in tables:
        rows = family_rows(results, family, columns)
        if rows:
            lines += [*aligned([[mark + title, *(name.upper() for name in columns)], *rows]), ""]
    rows = explanation_rows(results)
    if rows:
        lines += [
            *aligned([[f"{mark}explanation (percent)", *(name.upper() for name in TEXT_TITLES.values())], *rows]),
            "",
        ]
    lines += [*verdicts(results), *unfair_lines(results)]
    lines += [number_rule_line(results["leakage"]), user_numbers_line(results["leakage"]), ""]
    lines += [f"{name:<12} {path}" for name, path in report_files(places).items() if path.is_file()]
    return lines


def family_rows(results: Block, family: str, columns: Sequence[str]) -> list[list[str]]:
    """A row a model and prompt: the value of each column with its 95 % interval."""
    rows = []
    for key, block in results.get(family, {}).items():
        rows.append([f"VIP5 {key}", *_cells(block, columns)])
        for title, blocks in (
            ("without photos", results.get(f"{family}_without_photos", {})),
            ("text-only backbone", results.get("backbone", {}).get(family, {})),
        ):
            if key in blocks:
                rows.append([f"{title} {key}", *_cells(blocks[key], columns)])
    unfair = unfair_rivals(results)
    for name, title in _TITLES.items():
        if rows and name in results["baselines"][family]:
            shown = f"{title}, NOT FAIR" if name in unfair else title
            rows.append([shown, *_cells(results["baselines"][family][name], columns)])
    return rows


def unfair_rivals(results: Block) -> dict[str, list[str]]:
    """Rivals that are weaker than they should be, by name, and why."""
    notes = results.get("baseline_notes", {})
    return {name: list(note["why_not"]) for name, note in notes.items() if not note["fair"]}


def unfair_lines(results: Block) -> list[str]:
    """One line a rival that the comparison is not fair to.

    Example: "SASRec (softmax), NOT FAIR: training ended at its limit of seconds while the valid split still rose"
    """
    return [f"{_TITLES[name]}, NOT FAIR: {'; '.join(reasons)}" for name, reasons in unfair_rivals(results).items()]


def _cells(block: Block, columns: Sequence[str]) -> list[str]:
    limits = block.get("ci95", {})
    return [
        f"{block[name]:.4f}" + (f" [{limits[name][0]:.4f}, {limits[name][1]:.4f}]" if name in limits else "")
        for name in columns
    ]


def explanation_rows(results: Block) -> list[list[str]]:
    """A row a model and explanation prompt: `TEXT_TITLES` in percent, prompts that give nothing away first.

    The name says what the prompt gives away of the review, such as "VIP5 C-12 (given feature, rating)".
    """
    rows: list[tuple[int, list[str]]] = []
    for title, blocks in (("VIP5", results["explanation"]), ("text-only backbone", results["backbone"]["explanation"])):
        for key, block in blocks.items():
            if block["num_examples"]:
                given = f" (given {', '.join(block['given'])})" if block["given"] else ""
                row = [f"{title} {key}{given}", *(f"{block.get(name, 0.0):.2f}" for name in TEXT_TITLES)]
                rows.append((len(block["given"]), row))
    return [row for _, row in sorted(rows, key=lambda ranked: ranked[0])]


def verdicts(results: Block) -> list[str]:
    """One line a comparison that a reader asks first."""
    lines: list[str] = []
    for family, metric in (("sequential", "hr@10"), ("direct", "hr@10")):
        for key, block in results[family].items():
            gaps = {name: gap[metric] for name, gap in block["differences"].items() if metric in gap}
            rivals = {name: gap[0] for name, gap in gaps.items() if name in _TITLES}
            names = [min(rivals, key=rivals.__getitem__)] if rivals else []
            names += [name for name in ("without_photos",) if name in gaps]
            lines += [
                f"VIP5 {key} minus {name.replace('_', ' ')}, {metric.upper()}: {_gap(gaps[name])}" for name in names
            ]
    return lines


def number_rule_line(leakage: Block) -> str:
    """What the item numbers give away, as every evaluation, summary and page says it.

    Example: "number rule (largest number in the history + 1): HR@1 0.0654, HR@10 0.0790 \N{EM DASH} LEAKS (p5)"
    """
    verdict = "LEAKS" if leakage["numbers_leak"] else "leak-free numbering"
    return (
        f"number rule (largest number in the history + 1): HR@1 {leakage['number_rule_hr@1']:.4f}, "
        f"HR@10 {leakage['number_rule_hr@10']:.4f} \N{EM DASH} {verdict} ({leakage['numbering']})"
    )


def user_numbers_line(leakage: Block) -> str:
    """What the users' numbers give away.

    Example: "user neighbours (items of the nearest user numbers): HR@10 0.0699, by chance 0.0022 \N{EM DASH} LEAKS"
    """
    verdict = "LEAKS" if leakage["user_numbers_leak"] else "leak-free"
    return (
        f"user neighbours (items of the nearest user numbers): HR@10 {leakage['user_neighbours_hr@10']:.4f}, "
        f"by chance {leakage['user_neighbours_chance_hr@10']:.4f} \N{EM DASH} {verdict}"
    )


def _gap(gap: Sequence[float]) -> str:
    mean, low, high = gap
    word = "better" if low > 0 else "worse" if high < 0 else "no clear difference"
    return f"{mean:+.4f} [{low:+.4f}, {high:+.4f}] {word}"


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as text lines with columns padded to the same width, the first row underlined.

    Example:
        >>> aligned([["a", "b"], ["long", "1"]])
        ['a     b', '----  -', 'long  1']
    """
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [lines[0], "  ".join("-" * width for width in widths), *lines[1:]]


def report_files(places: Places) -> dict[str, Path]:
    """Where a reader looks next."""
    return {
        "model page": places.report("model.html"),
        "data page": places.report("data.html"),
        "photo page": places.report("photos.html"),
        "all numbers": places.metrics("evaluate.json"),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the results of the last evaluation."""
    parser = argparse.ArgumentParser(prog="python -m modeling.summary", description=main.__doc__)
    parser.add_argument(
        "--params",
        type=Path,
        default=Path("params.yaml"),
        help="YAML file that names the dataset (default: %(default)s)",
    )
    arguments = parser.parse_args(argv)
    configure_logging()
    try:
        places = Places(dataset=str(load_yaml(arguments.params)["dataset"]))
        path = places.metrics("evaluate.json")
        if not path.is_file():
            raise InputError(f"no {path}", "the metrics of a finished evaluation", "run `dvc repro`")
        lines = summary_lines(json.loads(path.read_text(encoding="utf-8")), places)
    except VIP5Error as error:
        logging.getLogger("vip5").error("summary: %s", error)
        return error.exit_code
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
