"""Writes the outputs of an evaluation: predictions, generated explanations, hit-rate curves, metrics.

Reads scores and results; writes two tables, a CSV, `summary.json` and `evaluate.json`. `evaluate.json` is written last,
so it never describes predictions that are missing.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pyarrow as pa

from features import schema
from features.runtime.stage import Context
from features.store.tables import Provenance, write_table
from modeling.evaluation.comparison import Compared, Scores
from modeling.evaluation.rank_prompts import Rankings
from modeling.evaluation.summary_numbers import summary_numbers
from modeling.evaluation.verdict import verdict_lines
from modeling.metrics.ranking import hits_by_depth

_DIGITS = 6


def write_all(
    compared: Compared, results: Mapping[str, Any], context: Context, *, params: Any, reads: Sequence[str]
) -> int:
    """Writes all outputs and returns the number of rows of `predictions`."""
    inputs = {name: context.root / Template(name).substitute(dataset=context.dataset) for name in reads}
    provenance = Provenance(stage="evaluate", params=params, inputs=inputs)
    rows = write_predictions(context.table("predictions"), compared.vip5, provenance)
    write_generated(context.table("explanations_generated"), compared.vip5, provenance)
    ranking = ("sequential", "direct")
    leaking = any(bool(results["leakage"][family]["leaks"]) for family in ranking)
    write_curves(context.plots("ranks.csv"), compared, leaking=leaking)
    written = rounded(results)
    written |= {"verdict": verdict_lines(written)}
    write_json(context.metrics("summary.json"), summary_numbers(written))
    write_json(context.metrics("evaluate.json"), written)
    return rows


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Writes a metrics file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_predictions(folder: Path, scores: Scores, provenance: Provenance) -> int:
    """Writes the table `predictions` and returns its number of rows."""
    parts = [_predictions(key, rankings) for key, rankings in (*scores.sequential.items(), *scores.direct.items())]
    empty = schema.PREDICTIONS.arrow.empty_table()
    return write_table(folder, schema.PREDICTIONS, pa.concat_tables([empty, *parts]), provenance)


def _predictions(key: str, rankings: Rankings) -> pa.Table:
    row, column = np.nonzero(rankings.items)
    columns = {
        "user_id": rankings.user_ids[row].astype(np.int32),
        "prompt_id": pa.repeat(key, len(row)),
        "rank": (column + 1).astype(np.int32),
        "item_id": rankings.items[row, column].astype(np.int32),
        "score": rankings.scores[row, column],
    }
    return pa.table(columns).cast(schema.PREDICTIONS.arrow)


def write_generated(folder: Path, scores: Scores, provenance: Provenance) -> int:
    """Writes the table `explanations_generated` and returns its number of rows."""
    table = schema.GENERATED
    parts = [
        pa.table({
            "user_id": explanations.user_ids.astype(np.int32),
            "prompt_id": pa.repeat(key, len(explanations.rows)),
            "item_id": explanations.item_ids.astype(np.int32),
            "generated": pa.array(explanations.generated, pa.string()),
            "reference": pa.array(explanations.references, pa.string()),
        }).cast(table.arrow)
        for key, explanations in scores.explanation.items()
    ]  # fmt: skip
    return write_table(folder, table, pa.concat_tables([table.arrow.empty_table(), *parts]), provenance)


def write_curves(path: Path, compared: Compared, *, leaking: bool) -> None:
    """Writes HR@k for k = 1 to top_k by family, prompt and model to `plots/<dataset>/ranks.csv`.

    If a ranking family leaks, every model name in the file is marked with "(leaking run)".
    """
    mark = " (leaking run)" if leaking else ""
    rows: list[list[Any]] = []
    models = {"VIP5": compared.vip5, **compared.others}
    for family in ("sequential", "direct"):
        depth = max((rankings.items.shape[1] for rankings in getattr(compared.vip5, family).values()), default=0)
        for name, scores in models.items():
            for key, rankings in getattr(scores, family).items():
                rows += _curve(family, key, name + mark, hits_by_depth(rankings.ranks, depth).tolist())
        for name, ranks in compared.baselines.ranks[family].items():
            rows += _curve(family, "any", name + mark, hits_by_depth(ranks, depth).tolist())
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["family", "prompt_id", "model", "k", "hit_rate"])
        writer.writerows(rows)


def _curve(family: str, key: str, model: str, hits: list[float]) -> list[list[Any]]:
    return [[family, key, model, k, round(hit, _DIGITS)] for k, hit in enumerate(hits, start=1)]


def rounded(value: Any) -> Any:
    """Returns `value` with every float rounded to six digits.

    Example:
        >>> rounded({"hr@1": [0.12345678]})
        {'hr@1': [0.123457]}
    """
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, Mapping):
        return {key: rounded(entry) for key, entry in value.items()}
    return [rounded(entry) for entry in value] if isinstance(value, list) else value
