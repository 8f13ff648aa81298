"""`python -m modeling.summary`: prints the verdict of the last evaluation, a small table and the next commands.

Reads `metrics/<dataset>/evaluate.json` and keys of users and items; prints lines on standard output. The table of
rankings has at most eight rows, that of explanations four; all other numbers are on the model page and in
`evaluate.json`.
"""

import argparse
import json
import logging
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from features.errors import InputError, VIP5Error
from features.runtime.params import load_params
from features.runtime.remedies import for_profile
from features.runtime.stage import Places, configure_logging
from modeling.evaluation.explanation_findings import (
    SENTENCE_BASELINES,
    best_sentence_baseline,
    main_explanations,
    score,
    sentence_baseline_blocks,
)
from modeling.evaluation.finding import STATES, Finding
from modeling.evaluation.result_tables import aligned
from modeling.evaluation.verdict import (
    BASELINES,
    best_baseline,
    findings,
    main_prompt,
    per_100,
    task_words,
)

Block = Mapping[str, Any]
_ROWS = 8
_COLOURS = dict(zip(STATES, ("32", "33", "31"), strict=True))  # green, amber, red


def summary_lines(results: Block, places: Places, *, default: str | None = None, coloured: bool = False) -> list[str]:
    """Returns the lines to print.

    Args:
        results: content of `evaluate.json`.
        places: paths of the dataset.
        default: dataset that commands use without `--dataset`; None if it is this one.
        coloured: whether to colour each finding by its state.
    """
    what = f"{results['dataset']}: {results['num_users']:,} users, {results['num_items']:,} items"
    lines = [what, "", *(shown(finding, coloured=coloured) for finding in findings(results)), ""]
    if rows := table_rows(results):
        lines += [*aligned(rows), "(\N{PLUS-MINUS SIGN}: half of the 95 % interval)", ""]
    if rows := sentence_rows(results):
        lines += [*aligned(rows), ""]
    pages = {name: path for name, path in report_files(places).items() if path.is_file()}
    lines += [f"{name:<12} {path}" for name, path in pages.items()]
    commands = recommend_commands(places, default)
    return [*lines, *(["", "Recommendations:", *commands] if commands else [])]


def shown(finding: Finding, *, coloured: bool) -> str:
    """Formats a finding for the terminal."""
    return f"\033[{_COLOURS[finding.state]}m{finding.text}\033[0m" if coloured else finding.text


def table_rows(results: Block) -> list[list[str]]:
    """Returns a header and at most eight rows: users per 100 whose item is found, by model and task."""
    keys = {family: key for family in ("sequential", "direct") if (key := main_prompt(results, family))}
    if not keys:
        return []
    metrics = {task: task_words(results, task)[0] for task in keys}
    held_out = {"sequential": "A-9", "direct": keys.get("direct", "").replace("B-5", "B-8")}
    photos = {task: results.get(f"{task}_without_photos", {}) for task in keys}
    rows = [
        ["VIP5", *(_cell(results[task].get(key), metrics[task]) for task, key in keys.items())],
        ["VIP5, prompt not seen in training", *(_cell(results[t].get(held_out[t]), metrics[t]) for t in keys)],
        ["VIP5 without photos", *(_cell(photos[task].get(key), metrics[task]) for task, key in keys.items())],
    ]
    blocks = {task: results["baselines"].get(task, {}) for task in keys}
    best = {best_baseline(results, task, metrics[task]) for task in keys}
    wanted = dict.fromkeys((
        *(best_baseline(results, task, metrics[task]) for task in keys), "popularity", "sasrec", "item_knn",
    ))  # fmt: skip
    names = [name for name in wanted if any(name in block for block in blocks.values())]
    for name in (*names[: _ROWS - len(rows) - 1], "random"):
        title = f"{'best baseline' if name in best else 'baseline'}: {BASELINES[name]}"
        rows.append([title, *(_cell(blocks[task].get(name), metrics[task]) for task in keys)])
    return [["of 100 users", *(_column(results, task) for task in keys)], *(row for row in rows if any(row[1:]))]


def sentence_rows(results: Block) -> list[list[str]]:
    """Returns a header and at most four rows: VIP5 and its best sentence baseline, with and without the feature."""
    rows = []
    for key in main_explanations(results):
        block, best = results["explanation"][key], best_sentence_baseline(results, key)
        rows.append([f"VIP5 {key}{', feature given' if 'feature' in block['given'] else ''}", *_sentence_cells(block)])
        if best:
            other = sentence_baseline_blocks(results, key)[best]
            rows.append([f"best baseline: {SENTENCE_BASELINES[best]}", *_sentence_cells(other)])
    header = ["explanations, percent", "BLEU-4", "ROUGE-L", "feature named", "different sentences"]
    return [header, *rows] if rows else []


def _sentence_cells(block: Block) -> list[str]:
    """Example: "23 \N{PLUS-MINUS SIGN} 6"; empty for a metric that was not measured."""
    cells = []
    for metric in ("bleu4", "rougeL", "feature_match", "distinct_sentences"):
        limits = block.get("ci95", {}).get(metric)
        half = f" \N{PLUS-MINUS SIGN} {score((limits[1] - limits[0]) / 2)}" if limits and limits[0] < limits[1] else ""
        cells.append(f"{score(block[metric])}{half}" if metric in block else "")
    return cells


def _column(results: Block, task: str) -> str:
    """Returns a column header, such as "next item in the first ten of 288"."""
    if task == "sequential":
        return f"next item in the first ten of {results['num_items']:,}"
    count = results.get("num_candidates", {}).get("direct", 0)
    return f"item {'in the first ten' if task_words(results, task)[0] == 'hr@10' else 'first'} of {count:,} candidates"


def _cell(block: Block | None, metric: str) -> str:
    """Example: "25 \N{PLUS-MINUS SIGN} 3"; empty without a block."""
    if block is None:
        return ""
    limits = block.get("ci95", {}).get(metric)
    return per_100(block[metric]) + (f" \N{PLUS-MINUS SIGN} {per_100((limits[1] - limits[0]) / 2)}" if limits else "")


def recommend_commands(places: Places, default: str | None) -> list[str]:
    """Returns a command for a user and one for a history, with keys of this dataset; none without its tables."""
    from features import schema
    from features.store.tables import read_table

    tables = ("sequences/users", "sequences/items", "sequences/interactions")
    if not all((places.table(name) / "_manifest.json").is_file() for name in tables):
        return []
    users = read_table(places.table(tables[0]), schema.USERS, columns=("user_id", "user_key"))
    items = read_table(places.table(tables[1]), schema.CATALOGUE, columns=("item_id", "item_key"))
    interactions = read_table(places.table(tables[2]), schema.INTERACTIONS, columns=("user_id", "item_id"))
    if not users.num_rows or not interactions.num_rows:
        return []
    keys = dict(zip(*(items[name].to_pylist() for name in ("item_id", "item_key")), strict=True))
    history = [keys[item] for item in interactions["item_id"][:3].to_pylist() if "," not in keys[item]]
    option = f" --dataset {shlex.quote(places.dataset)}" if default is not None else ""
    command = f".venv/bin/python -m modeling.recommend{option}"
    commands = [f"{command} --user {shlex.quote(users['user_key'][0].as_py())}"]
    if history:
        commands.append(f"{command} --history {shlex.quote(','.join(history))} --page recommendations.html")
    return commands


def report_files(places: Places) -> dict[str, Path]:
    """Returns the report files by title."""
    return {
        "model page": places.report("model.html"),
        "data page": places.report("data.html"),
        "photo page": places.report("photos.html"),
        "all numbers": places.metrics("evaluate.json"),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Print the verdict of the last evaluation, a small table, and the paths of all reports."""
    parser = argparse.ArgumentParser(prog="python -m modeling.summary", description=main.__doc__)
    parser.add_argument(
        "--params", type=Path, metavar="FILE", default=Path("params.yaml"),
        help="YAML file that names the dataset (default: %(default)s)",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    configure_logging()
    try:
        places = Places(dataset=str(load_params(arguments.params)["dataset"]))
        path = places.metrics("evaluate.json")
        if not path.is_file():
            raise InputError(f"no {path}", "the metrics of a finished evaluation", "run `.venv/bin/dvc repro`")
        usual = Path("params.yaml")
        default = str(load_params(usual)["dataset"]) if usual.is_file() else places.dataset
        lines = summary_lines(
            json.loads(path.read_text(encoding="utf-8")), places,
            default=None if default == places.dataset else default,
            coloured=sys.stdout.isatty() and "NO_COLOR" not in os.environ,
        )  # fmt: skip
    except VIP5Error as error:
        logging.getLogger("vip5").error("summary: %s", for_profile(error, arguments.params))
        return error.exit_code
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
