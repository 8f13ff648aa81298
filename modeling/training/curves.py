"""Writes the loss curve and the final metrics of a training run.

Reads a `TrainingLog`. Writes `plots/<dataset>/<stage>.csv` and `metrics/<dataset>/<stage>.json`.
Trade-off: seconds, speed and memory appear in the log only, so that a repeated run writes identical files.
"""

import csv
import io
import json
from typing import Any

from features.runtime.stage import Places
from features.schema import FAMILIES
from features.store.durable import write_text
from modeling.training.training_log import TrainingLog

COLUMNS = (
    "step", "epoch", "loss", *(f"loss_{family}" for family in FAMILIES), "learning_rate",
    "valid_loss", *(f"valid_loss_{family}" for family in FAMILIES), "valid_hr@10",
)  # fmt: skip


def write_curve(places: Places, stage: str, training_log: TrainingLog) -> None:
    """Writes the rows of `training_log` as CSV; cells without a value stay empty."""
    path = places.plots(f"{stage}.csv")
    path.parent.mkdir(parents=True, exist_ok=True)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows([{name: _cell(value) for name, value in row.items()} for row in training_log.rows])
    write_text(path, stream.getvalue())


def write_metrics(places: Places, stage: str, training_log: TrainingLog, **more: Any) -> None:
    """Writes the final metrics as JSON, with `more` entries of the stage such as parameter counts."""
    path = places.metrics(f"{stage}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    numbers = {
        "steps": training_log.steps,
        "examples": training_log.examples,
        "source_tokens": training_log.source_tokens,
        "padding_share": round(training_log.padding_share, 4),
        "stopped": training_log.stopped,
        "best_step": training_log.best_step,
        "best": {name: round(value, 6) for name, value in training_log.best.items()},
        **more,
    }
    write_text(path, json.dumps(numbers, indent=1, sort_keys=True) + "\n")


def _cell(value: Any) -> Any:
    return "" if value is None else round(value, 6) if isinstance(value, float) else value
