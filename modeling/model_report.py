"""Stage `model_report`: one page about the trained model: results beside baselines, curves, users one can look at.

Enters: metrics, predictions, curves, tables, photos. Leaves: `reports/<dataset>/model.html`, self-contained.
Trade-off: photos are put into the page as they are, so the gallery is small (a dozen users); nothing is fetched.
"""

import csv
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features import stage
from features.datasets import Dataset
from features.errors import InputError
from features.params import build
from features.stage import Context

SECTIONS = ("datasets",)
READS = (
    "metrics/${dataset}/evaluate.json",
    "plots/${dataset}/pretrain.csv",
    "plots/${dataset}/train.csv",
    "plots/${dataset}/ranks.csv",
    "data/${dataset}/predictions",
    "data/${dataset}/explanations_generated",
    "data/${dataset}/sequences/interactions",
    "data/${dataset}/sequences/items",
    "data/${dataset}/sequences/users",
    "data/raw/${dataset}",
)
WRITES = ("reports/${dataset}/model.html",)
_TOP = 10
_CURVES = ("loss", "loss_sequential", "loss_direct", "loss_explanation", "valid_loss", "valid_hr@10")


@dataclass(frozen=True, kw_only=True)
class Params:
    """Parameters of the stage `model_report`."""

    num_users: int = 12
    """Users of the gallery, drawn by the seed: half of them, where there are enough, with a generated explanation."""
    prompt: str = "A-3"
    """Key of the prompt whose ranking the gallery shows; the first one evaluated if this one was not."""

    def __post_init__(self) -> None:
        if self.num_users < 0:
            raise ValueError("num_users must be at least 0")


def run(params: Params, context: Context) -> int:
    """Writes the page about the trained model; returns the users it shows."""
    from modeling import model_page as html
    from modeling.gallery import cards

    path = context.metrics("evaluate.json")
    if not path.is_file():
        raise InputError(f"no {path}", "the metrics of `evaluate`", "run `dvc repro evaluate`")
    results = json.loads(path.read_text(encoding="utf-8"))
    dataset = build(Dataset, context.shared["datasets"], where=f"datasets.{context.dataset}")
    photos = None if dataset.photos is None else context.raw / dataset.photos
    shown = cards(context, photos, prompt=params.prompt, num_users=params.num_users, top=_TOP)
    parts = [*_head(results), *_results(results), *_curves(context)]
    if shown:
        parts += ["<h2>Users</h2>", f'<div class="cards">{"".join(html.card(card) for card in shown)}</div>']
    page = context.report("model.html")
    page.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(html.page(f"VIP5 on {context.dataset}", parts), encoding="utf-8")
    return len(shown)


def _head(results: Mapping[str, Any]) -> list[str]:
    from html import escape

    from modeling.summary import number_rule_line, user_numbers_line

    leakage = results["leakage"]
    flag, word = ("leak", "leaking") if leakage["leaking"] else ("ok", "no leak found")
    disorder = leakage["users_out_of_time_order"]
    order = "no timestamps" if disorder is None else f"users out of time order {disorder}"
    what = (
        f"{results['num_users']:,} users, {results['num_items']:,} items; test split, {results['decoding']} decoding."
    )
    rule = f"{number_rule_line(leakage)}; by chance HR@10 would be {leakage['number_rule_chance_hr@10']:.4f}. "
    rule += f"{user_numbers_line(leakage)}. "
    pairs = (
        f"Test pairs asked for in train prompts: {leakage['test_pairs_in_train_targets']:.2%}; shown there: "
        f"{leakage['test_pairs_in_train_photos']:.2%}; copied prompts: {leakage['test_prompts_in_train']}; {order}."
    )
    return [
        f'<p>{escape(what)} <span class="flag {flag}">{word}</span></p>',
        f'<p class="note">{escape(rule + pairs)}</p>',
    ]


def _results(results: Mapping[str, Any]) -> list[str]:
    from modeling import model_page as html
    from modeling.summary import explanation_rows, family_rows, verdicts

    parts = []
    titles = {
        "sequential": ("What comes next, among the whole catalogue", ("hr@5", "ndcg@5", "hr@10", "ndcg@10", "mrr@10")),
        "direct": ("Which of 100 candidates", ("hr@1", "hr@5", "ndcg@5", "hr@10", "ndcg@10")),
    }
    for family, (title, columns) in titles.items():
        rows = family_rows(results, family, columns)
        if rows:
            header = ["model", *(name.upper() for name in columns)]
            parts += [f"<h2>{title}</h2>", html.table(header, rows, own="VIP5 ")]
    parts.append('<p class="note">In brackets: 95 % bootstrap intervals over users. Items a user already has are '
                 "masked for every model and baseline.</p>")  # fmt: skip
    rows = explanation_rows(results)
    if rows:
        header = ["model", "BLEU-4", "ROUGE-1", "ROUGE-2", "ROUGE-L"]
        note = "Given: what the prompt itself tells of the review that is to be written."
        parts += ["<h2>Explanations (percent)</h2>", html.table(header, rows, own="VIP5 ")]
        parts.append(f'<p class="note">{note}</p>')
    lines = [list(line.split(": ", 1)) for line in verdicts(results)]
    return [*parts, "<h2>Differences on the same users</h2>", html.table(["", ""], lines, own="-")]


def _curves(context: Context) -> list[str]:
    from modeling import model_page as html

    parts = ["<h2>Learning curves</h2>"]
    for name in ("pretrain", "train"):
        rows = _read(context.plots(f"{name}.csv"))
        series = {
            column: [(float(row["step"]), float(row[column])) for row in rows if row.get(column)]
            for column in _CURVES
        }  # fmt: skip
        losses = {column: points for column, points in series.items() if points and "hr@" not in column}
        parts.append(html.line_chart(f"{name}: loss (nats a token)", losses, x_label="step"))
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


def _read(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV; none where a stage left no curve (a backbone taken as it is)."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def main(argv: Sequence[str] | None = None) -> int:
    """The command `python -m modeling.model_report`."""
    return stage.main("model_report", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
