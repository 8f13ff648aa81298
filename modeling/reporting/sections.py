"""Renders the sections of the model page: verdict, result tables with published figures, slices, calibration, curves.

Reads the content of `evaluate.json`, curves, predictions and published figures; returns HTML parts. A section without
data says so or is omitted.
"""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features import schema
from features.runtime.stage import Context
from features.store.tables import read_table
from modeling.evaluation.result_tables import (
    TEXT_TITLES,
    difference_lines,
    explanation_rows,
    family_rows,
    family_title,
    leaks_of,
    number_rule_line,
    reference_rows,
    undertrained_lines,
    user_numbers_line,
)
from modeling.evaluation.verdict import copies_line, findings, worst
from modeling.metrics import calibration as calibrating
from modeling.reporting import html
from modeling.reporting import published_results as publishing

_CURVES = ("loss", "loss_sequential", "loss_direct", "loss_explanation", "valid_loss", "valid_hr@10")
_FAMILIES: Mapping[str, tuple[str, ...]] = {
    "sequential": ("hr@5", "ndcg@5", "hr@10", "ndcg@10", "mrr@10"),
    "direct": ("hr@1", "hr@5", "ndcg@5", "hr@10", "ndcg@10"),
    "direct_popular": ("hr@1", "hr@5", "ndcg@5", "hr@10", "ndcg@10"),
    "direct_whole": ("hr@1", "hr@5", "ndcg@5", "hr@10", "ndcg@10"),
    "explanation": tuple(TEXT_TITLES),
}
_REFERENCE: Mapping[str, Mapping[str, str]] = {
    "sequential": {name: name.upper() for name in _FAMILIES["sequential"]},
    "direct": {name: name.upper() for name in _FAMILIES["direct"]},
    "explanation": {
        "bleu1": "BLEU-1", "bleu4": "BLEU-4", "rouge_1/f_score": "ROUGE-1", "rouge_2/f_score": "ROUGE-2",
        "rouge_l/f_score": "ROUGE-L",
    },
}  # fmt: skip
_PUBLISHED_CANDIDATES = 100
_BADGES = {"good": "no weakness found", "weak": "weaknesses found", "bad": "serious weaknesses found"}
_SLICES = {
    "target_photo": "photo of the item", "history_length": "items known of the user",
    "target_popularity": "popularity of the item", "target_in_train": "item in the train split",
}  # fmt: skip
Results = Mapping[str, Any]


def verdict(results: Results) -> list[str]:
    """Returns the findings coloured by state, under a badge with the worst state."""
    found = findings(results)
    state = worst(found)
    return [html.part("verdict", state=state, badge=_BADGES[state], findings=found)]


def head(results: Results) -> list[str]:
    """Returns what was evaluated, whether anything leaks, and the list of leakage checks."""
    leakage = results["leakage"]
    state, word = ("bad", "leaking") if leakage["leaking"] else ("good", "no leak found")
    what = (
        f"{results['num_users']:,} users, {results['num_items']:,} items; test split, {results['decoding']} decoding."
    )
    return [html.part("head", what=what, state=state, word=word, checks=_looked_for(leakage))]


def _looked_for(leakage: Results) -> list[str]:
    """Returns the result of each leakage check as one line."""
    disorder = leakage["users_out_of_time_order"]
    asked, shown = leakage["test_pairs_in_train_targets"], leakage["test_pairs_in_train_photos"]
    return [
        f"{number_rule_line(leakage)}; by chance HR@10 would be {leakage['number_rule_chance_hr@10']:.4f}",
        user_numbers_line(leakage),
        f"test user-item pairs in train prompts: {asked:.2%} as target, {shown:.2%} as photo",
        *(copies_line(family, leakage[family]) for family in ("sequential", "direct", "explanation")),
        "time order: not checked, because there are no timestamps"
        if disorder is None
        else f"users out of time order: {disorder}",
    ]


def tables(results: Results, published: publishing.Published) -> list[str]:
    """Returns one table per family: VIP5, baselines and published figures, each marked as leaking or not."""
    split = published.split_of(results["num_users"], results["num_items"])
    parts = []
    for family, columns in _FAMILIES.items():
        rows = explanation_rows(results) if family == "explanation" else family_rows(results, family, columns)
        if rows:
            reasons = leaks_of(results, family)
            cited = publishing.rows(published, split, family, columns) if split and _comparable(results, family) else []
            header = ["model", "leaks", *(TEXT_TITLES.get(name, name).upper() for name in columns)]
            leaks = "yes" if reasons else "none found"
            parts += [html.part("heading", text=family_title(results, family))]
            parts += [html.part("leaking", reasons=reasons)] if reasons else []
            parts += [html.table(header, [[row[0], leaks, *row[1:]] for row in rows], highlight="VIP5 ", cited=cited)]
            parts += [html.part("notes", lines=_notes(results, family))]
    parts += [html.part("notes", lines=[_cited(published, split), *(f"{x}." for x in undertrained_lines(results))])]
    lines = [list(line.split(": ", 1)) for line in difference_lines(results)]
    title = html.part("heading", text="Differences on the same users")
    return [*parts, title, html.table(["", ""], lines, highlight="-")]


def reference(results: Results) -> list[str]:
    """Returns VIP5's metrics as the reference implementation computes them, in tables of their own; empty without."""
    parts = []
    for family, columns in _REFERENCE.items():
        if rows := reference_rows(results, family, list(columns)):
            leaks = "yes" if leaks_of(results, family) else "none found"
            header = ["model", "leaks", *(columns[name] for name in columns)]
            parts += [f"<h3>{family_title(results, family)}</h3>"]
            parts += [html.table(header, [[row[0], leaks, *row[1:]] for row in rows], highlight="VIP5 ")]
    if not parts:
        return []
    note = (
        "Not comparable with the tables above. Ranks: a generated string counts if it is an integer, a repeated number "
        "keeps its last rank, and items that the user has or that are no candidates are not removed. BLEU is computed "
        "on characters, ROUGE on distinct n-grams."
    )
    return ["<h2>As the reference implementation computes it</h2>", f'<p class="note">{note}</p>', *parts]


def _comparable(results: Results, family: str) -> bool:
    """Returns whether published figures are comparable; those of the family direct have 100 candidates."""
    return family != "direct" or results.get("num_candidates", {}).get("direct") in {None, _PUBLISHED_CANDIDATES}


def _notes(results: Results, family: str) -> list[str]:
    if family == "explanation":
        given = "Given: fields of the target review that the prompt contains. In brackets: 95 % bootstrap intervals."
        shares = "Different sentences and empty: shares of all generated sentences."
        return [f"{given} {shares} Baselines are sentences of train reviews, on the same test reviews."]
    asked = {block["num_users"] for block in results[family].values()}
    drawn = f" {max(asked):,} of the {results['num_users']:,} users were sampled." if asked else ""
    masked = " Items a user already has are masked for every model and baseline." if family == "sequential" else ""
    return [f"In brackets: 95 % bootstrap intervals over users.{drawn}{masked}"]


def _cited(published: publishing.Published, split: str | None) -> str:
    if split is None:
        return "There are no published figures for a split with these numbers of users and items."
    text = (
        f"In italics: published figures for this split ({split}), not reproduced here; protocols differ in detail. "
        "Leaks: yes if item numbers follow the complete histories or test pairs occur in training prompts, unknown if "
        "it was not checked. Sources: "
    )
    return f"{text}{'; '.join(publishing.sources(published, split))}."


def slices(results: Results, prompt: str) -> list[str]:
    """Returns HR@10 of VIP5 by slice and prompt, then HR@10 of all models by slice for `prompt`."""
    parts = []
    for family in ("sequential", "direct"):
        blocks = {key: block["slices"] for key, block in results[family].items() if block.get("slices")}
        named: dict[tuple[str, str], dict[str, Any]] = {}
        for key, found in blocks.items():
            for name, values in found.items():
                for label, block in values.items():
                    named.setdefault((name, label), {})[key] = block
        rows = []
        for (name, label), by_prompt in named.items():
            users = max(block.get("num_users", 0) for block in by_prompt.values())
            cells = [_hit_rate(by_prompt.get(key, {})) for key in blocks]
            rows.append([_named(name, label), f"{users:,}", *cells])
        if rows:
            header = ["slice", "users", *(f"{key} HR@10" for key in blocks)]
            parts += [html.part("heading", text=family, level=3), html.table(header, rows, highlight="-")]
    parts += _by_model(results.get("slices", {}).get("sequential", {}), prompt)
    return [html.part("heading", text="Results by slice"), *parts] if parts else []


def _by_model(blocks: Results, prompt: str) -> list[str]:
    """Returns HR@10 of all models by slice, for `prompt` or the first evaluated prompt."""
    if not blocks:
        return []
    shown = prompt if prompt in blocks else next(iter(blocks))
    parts = {_named(name, label): part for name, found in blocks[shown].items() for label, part in found.items()}
    models = list(dict.fromkeys(model for part in parts.values() for model in part["models"]))
    rows = [
        [name, f"{part['num_users']:,}", *(_hit_rate(part["models"].get(model, {})) for model in models)]
        for name, part in parts.items()
    ]
    header = ["slice", "users", *(model.replace("_", " ") for model in models)]
    title = f"{shown} compared with the other models, HR@10"
    return [html.part("heading", text=title, level=3), html.table(header, rows, highlight="-")]


def _named(name: str, label: str) -> str:
    return f"{_SLICES.get(name, name.replace('_', ' '))}: {label}"


def _hit_rate(block: Mapping[str, Any]) -> str:
    if "hr@10" not in block:
        return "-"
    limits = block.get("ci95", {}).get("hr@10")
    return f"{block['hr@10']:.4f}" + (f" [{limits[0]:.4f}, {limits[1]:.4f}]" if limits else "")


def calibration(context: Context, prompt: str) -> list[str]:
    """Returns the calibration of `prompt` (or of the first evaluated prompt), by rank and by probability bin."""
    rows = read_table(context.table("predictions"), schema.PREDICTIONS)
    prompts = sorted(key for key in rows["prompt_id"].unique().to_pylist() if key.startswith("A-"))
    if not prompts:
        return []
    shown = prompt if prompt in prompts else prompts[0]
    result = calibrating.calibration(rows.filter(pc.equal(rows["prompt_id"], shown)), _held_out(context))
    if result is None:
        return []
    summary = calibrating.summary(result)
    curves_by_rank = {"mean probability": result.predicted, "observed share of users": result.observed}
    series = {name: list(enumerate(values.tolist(), start=1)) for name, values in curves_by_rank.items()}
    text = (
        f"The probabilities of the first ten ranks of {shown} sum to {summary['predicted_hr@10']:.4f}; HR@10 is "
        f"{summary['hr@10']:.4f}. Expected calibration error over the bins: {summary['error']:.4f}. Probabilities are "
        "over the whole vocabulary and include seen items."
    )
    header = ["probability", "predictions", "mean probability", "observed share"]
    return [
        html.part("heading", text="Calibration of ranks"),
        html.line_chart(f"{shown}: predicted and observed, by rank", series, x_label="rank"),
        html.table(header, calibrating.bin_rows(result), highlight="-"),
        html.part("notes", lines=[text]),
    ]


def _held_out(context: Context) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Returns (U + 1,) the test item by user_id, 0 for none."""
    columns = ("user_id", "item_id", "split")
    rows = read_table(context.table("sequences/interactions"), schema.INTERACTIONS, columns=columns)
    tested: pa.Table = rows.filter(pc.equal(rows["split"], "test"))
    users = tested["user_id"].to_numpy()
    targets = np.zeros(int(rows["user_id"].to_numpy().max(initial=0)) + 1, np.int64)
    targets[users] = tested["item_id"].to_numpy()
    return targets


def curves(context: Context) -> list[str]:
    """Returns losses and HR@10 over the training steps, and hit rates by k."""
    parts = [html.part("heading", text="Learning curves")]
    for name in ("pretrain", "train"):
        rows = _read(context.plots(f"{name}.csv"))
        series = {
            column: [(float(row["step"]), float(row[column])) for row in rows if row.get(column)]
            for column in _CURVES
        }  # fmt: skip
        losses = {column: points for column, points in series.items() if points and "hr@" not in column}
        parts.append(html.line_chart(f"{name}: loss (nats per token)", losses, x_label="step"))
        ranks = {column: points for column, points in series.items() if points and "hr@" in column}
        parts.append(html.line_chart(f"{name}: HR@10 on valid", ranks, x_label="step"))
    rows = _read(context.plots("ranks.csv"))
    for family in ("sequential", "direct"):
        hits: dict[str, list[tuple[float, float]]] = {}
        first = next((row["prompt_id"] for row in rows if row["family"] == family), None)
        for row in rows:
            if row["family"] == family and row["prompt_id"] in {first, "any"}:
                hits.setdefault(row["model"].replace("_", " "), []).append((float(row["k"]), float(row["hit_rate"])))
        parts.append(html.line_chart(f"{family} {first}: hit rate within the first k", hits, x_label="k"))
    return parts


def _read(path: Path) -> Sequence[dict[str, str]]:
    """Reads the rows of a CSV; empty if the stage wrote no curve (a backbone that was not trained)."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
