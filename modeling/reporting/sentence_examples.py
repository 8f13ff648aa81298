"""Renders generated explanations beside the sentences that users wrote.

Reads the table `explanations_generated`; returns HTML parts. The rows are sampled by the seed and shown as they are,
whatever their quality.
"""

import pyarrow as pa

from features import schema
from features.runtime.seeds import rng
from features.runtime.stage import Context
from features.store.tables import read_table
from modeling.reporting import html


def sample_rows(generated: pa.Table, count: int, *, seed: int) -> pa.Table:
    """Returns at most `count` rows, sampled without replacement by the seed, in the order of the table."""
    chosen = rng(seed, "sentence examples").choice(len(generated), min(count, len(generated)), replace=False)
    return generated.take(pa.array(sorted(chosen.tolist()), pa.int64()))


def sentence_examples(context: Context, count: int) -> list[str]:
    """Returns a table of `count` generated sentences and their references; empty without any explanation."""
    rows = sample_rows(read_table(context.table("explanations_generated"), schema.GENERATED), count, seed=context.seed)
    if not len(rows):
        return []
    cells = [[row["prompt_id"], row["generated"] or "(empty)", row["reference"]] for row in rows.to_pylist()]
    return [
        html.part("heading", text="Generated explanations"),
        html.table(["prompt", "generated", "written by the user"], cells, highlight="-"),
        html.part("notes", lines=[f"{len(rows)} rows of the test split, sampled by the seed and not selected."]),
    ]
