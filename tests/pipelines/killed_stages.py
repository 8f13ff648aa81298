"""Stages in processes that can be killed: what a child runs, and the small dataset that it runs on.

Children are forked from a server that has imported Beam and Polars once, which saves a second per run.
"""

import importlib
import multiprocessing
import os
import sys
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import yaml

from features import schema
from features.runtime import stage
from features.runtime.params import load_yaml, merge
from features.store import tables
from pipelines import candidates, explanations, records, sample, sequences

SETTINGS = {
    "records": {"readers_per_file": 2, "lines_per_block": 40},
    "sequences": {"k_core": 3},
    "prompts": {"rows_per_part": 200, "num_candidates": 10, "rounds": 2},
}
OTHER_SETTINGS = {
    "records": {"lines_per_block": 90, "max_line_bytes": 250, "max_rejected_share": 1},
    "sequences": {"k_core": 4},
    "prompts": {"rounds": 1, "max_history": 1},
}
"""Parameters of the earlier tables that a killed run would have replaced."""
_CONTEXT = multiprocessing.get_context("forkserver")
_PRELOAD = [
    "apache_beam",
    "polars",
    "pipelines.beam.runner",
    "pipelines.parsing.staged_parts",
    "pipelines.sequencing.beam_engine",
]


def start(name: str, folder: Path) -> ForkServerProcess:
    """Runs `python -m pipelines.<name>` in `folder`, in a separate process."""
    _CONTEXT.set_forkserver_preload([*_PRELOAD, "pipelines.prompts"])
    process = _CONTEXT.Process(target=_child, args=(name, str(folder)))
    process.start()
    return process


def _child(name: str, folder: str) -> None:
    os.chdir(folder)
    log = os.open("log.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.exit(importlib.import_module(f"pipelines.{name}").main([]))


def write_params(folder: Path, root: Path, settings: dict[str, Any]) -> None:
    """Writes the repository's parameters merged with `settings`."""
    whole = merge(load_yaml(root / "params.yaml"), settings | {"seed": 7})
    (folder / "params.yaml").write_text(yaml.safe_dump(whole))


def make_dataset(folder: Path, root: Path) -> stage.Context:
    """Writes the input of the three stages."""
    write_params(folder, root, SETTINGS)
    small = sample.Params(num_users=60, items_per_cell=1, num_rare_users=2, num_rare_items=2)
    entry = {"format": "amazon2014", "reviews": [sample.REVIEWS], "metadata": [sample.METADATA]}
    shared = {"datasets": entry, "beam": {}, "num_visual_tokens": 2}
    context = stage.Context(dataset="sample", root=folder, seed=7, shared=shared)
    sample.run(small, context)
    records.run(records.Params(**SETTINGS["records"]), context)
    sequences.run(sequences.Params(**SETTINGS["sequences"]), context)
    explanations.run(explanations.Params(min_reviews=1, min_score=1.0), context)
    candidates.run(candidates.Params(num_negatives=9), context)
    items = tables.read_table(context.table("sequences/items"), schema.CATALOGUE)["item_id"].to_pylist()
    rows = tables.from_rows(schema.IDENTIFIERS, [{"item_id": n, "code": [n], "text": f"<{n}>"} for n in items])
    made_up = tables.Provenance(stage="identifiers", params={})
    tables.write_table(context.table("identifiers"), schema.IDENTIFIERS, rows, made_up)
    return context
