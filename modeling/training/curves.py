"""The curve and the final numbers of a training run as plain files.

Enters: a `History`. Leaves: `plots/<dataset>/<stage>.csv` and `metrics/<dataset>/<stage>.json`.
Trade-off: seconds, speed and memory are told in the log only, so that a repeated run leaves the same bytes.
"""

import csv
import json
from typing import Any

from features.runtime.stage import Places
from features.schema import FAMILIES
from modeling.training.training_log import History

COLUMNS = (
    "step", "epoch", "loss", *(f"loss_{family}" for family in FAMILIES), "learning_rate",
    "valid_loss", *(f"valid_loss_{family}" for family in FAMILIES), "valid_hr@10",
)  # fmt: skip


def write_curve(places: Places, stage: str, history: History) -> None:
    """Writes the rows of `history`; a cell is empty where nothing was measured."""
    path = places.plots(f"{stage}.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows([{name: _cell(value) for name, value in row.items()} for row in history.rows])


def write_metrics(places: Places, stage: str, history: History, **more: Any) -> None:
    """Writes the final numbers; `more` is what the stage knows besides, such as parameter counts."""
    path = places.metrics(f"{stage}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = {
        "steps": history.steps,
        "examples": history.examples,
        "source_tokens": history.source_tokens,
        "padding_share": round(history.padding_share, 4),
        "stopped": history.stopped,
        "best_step": history.best_step,
        "best": {name: round(value, 6) for name, value in history.best.items()},
        **more,
    }
    path.write_text(json.dumps(numbers, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _cell(value: Any) -> Any:
    return "" if value is None else round(value, 6) if isinstance(value, float) else value
