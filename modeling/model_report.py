"""Stage `model_report`: writes one HTML page about the trained model: results, published figures, curves, users.

Reads metrics, predictions, curves, tables and photos; writes `reports/<dataset>/model.html` and the SVG files of
`dvc plots show`. Trade-off: the page is self-contained, so photos are embedded in full and the gallery is small.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from features.errors import InputError
from features.runtime import stage
from features.runtime.datasets import Dataset
from features.runtime.params import build
from features.runtime.stage import Context
from features.store.durable import write_text

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
WRITES = (
    "reports/${dataset}/model.html",
    "plots/${dataset}/loss.svg",
    "plots/${dataset}/validation.svg",
    "plots/${dataset}/next_item.svg",
    "plots/${dataset}/candidates.svg",
)
_TOP = 10


@dataclass(frozen=True, kw_only=True)
class Params:
    """Parameters of the stage `model_report`."""

    num_users: int = 12
    """Users in the gallery, sampled by the seed; up to half of them have a generated explanation."""
    prompt: str = "A-3"
    """Key of the prompt whose ranking the gallery shows; the first evaluated prompt if this one was not evaluated."""
    num_sentences: int = 20
    """Generated explanations shown beside their references, sampled by the seed."""

    def __post_init__(self) -> None:
        for name in ("num_users", "num_sentences"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0")


def run(params: Params, context: Context) -> int:
    """Write the model page and its plots."""
    from modeling.reporting import curve_plots, html, published_results, sections, sentence_examples, user_gallery

    path = context.metrics("evaluate.json")
    if not path.is_file():
        raise InputError(f"no {path}", "the metrics of `evaluate`", "run `.venv/bin/dvc repro evaluate`")
    results = json.loads(path.read_text(encoding="utf-8"))
    dataset = build(Dataset, context.shared["datasets"], where=f"datasets.{context.dataset}")
    cards = user_gallery.cards(context, dataset, prompt=params.prompt, num_users=params.num_users, top=_TOP)
    parts = [
        *sections.verdict(results), *sections.head(results),
        *sections.tables(results, published_results.load_published()), *sections.reference(results),
        *sentence_examples.sentence_examples(context, params.num_sentences), *sections.slices(results, params.prompt),
        *sections.calibration(context, params.prompt), *sections.curves(context),
    ]  # fmt: skip
    if cards:
        parts.append(html.cards(cards))
    page = context.report("model.html")
    page.parent.mkdir(parents=True, exist_ok=True)
    write_text(page, html.page(f"VIP5 on {context.dataset}", parts))
    curve_plots.write_plots(context)
    return len(cards)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs `python -m modeling.model_report`."""
    return stage.main("model_report", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
