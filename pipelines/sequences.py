"""Stage `sequences`: turns clean reviews into numbered, split purchase histories in time order.

Reads `records/reviews` and `records/items`. Writes `sequences/users`, `sequences/items` and `sequences/interactions`.
Trade-off: keys are hashed to integers and users are bucketed, so memory grows with the number of users and items and
the bucket size. Interactions are spilled to disk, 36 bytes each.
"""

import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from features import schema
from features.runtime import stage
from features.runtime.matching import Matching
from features.runtime.params import build
from features.store import tables
from pipelines.beam.runner import BeamParams
from pipelines.sequencing.config import Params

if TYPE_CHECKING:
    import polars as pl

SECTIONS = ("datasets", "beam")
READS = ("data/${dataset}/records/reviews", "data/${dataset}/records/items")
WRITES = (
    "data/${dataset}/sequences/users",
    "data/${dataset}/sequences/items",
    "data/${dataset}/sequences/interactions",
)


_METADATA_ACTION = (
    "list the metadata of these reviews in datasets.NAME.metadata of params.yaml, or [] to go without titles"
)
_EXECUTION = ("engine", "rows_per_bucket", "beam_rounds", "min_match_share")  # parameters that do not change a row
# The source of previous numbers is recorded in the champion's pointer, not in the manifests: otherwise the manifests
# would change with every new champion, and all later stages, including training, would run again for the same rows.
_PREVIOUS = ("previous_items", "previous_users")


def run(params: Params, context: stage.Context) -> int:
    """Deduplicate, filter to the k-core, order by time, number and split the interactions."""
    import polars as pl

    from pipelines.sequencing import beam_engine, frame_store, id_assignment, polars_engine

    inputs = {name: context.table(name) for name in ("records/reviews", "records/items")}
    reviews = tables.checked_parts(inputs["records/reviews"], schema.REVIEWS)
    metadata = pl.scan_parquet(tables.checked_parts(inputs["records/items"], schema.ITEMS))
    rows = {part: pq.read_metadata(part).num_rows for part in reviews}
    num_buckets = max(-(-sum(rows.values()) // params.rows_per_bucket), 1)
    work = context.table("sequences").with_name(".sequences.work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    staging = tables.begin_table(context.table(schema.INTERACTIONS.name))
    try:
        engine = beam_engine if params.engine == "beam" else polars_engine
        in_memory = params.engine == "polars" and num_buckets == 1
        job = polars_engine.Job(
            rules=polars_engine.Rules(params=params, seed=context.seed),
            num_buckets=num_buckets,
            pieces=frame_store.Pieces(folder=None if in_memory else work.resolve()),
            beam=build(BeamParams, context.shared["beam"], where="beam"),
        )
        engine.write_ordered(job, list(polars_engine.batches(rows)))
        users, items = id_assignment.assign(params, context, job.pieces, rows)
        matching = id_assignment.match_metadata(items, metadata)
        if matching.total:
            matching.check(params.min_match_share, parameter="sequences.min_match_share", action=_METADATA_ACTION)
        catalogue = id_assignment.with_metadata(items, metadata)
        engine.write_parts(job, users, items, staging.resolve())
        return finish(params, context, inputs, users, catalogue, matching=matching)
    finally:  # nothing is left to remove after a success
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(staging, ignore_errors=True)


def finish(
    params: Params, context: stage.Context, inputs: Mapping[str, Path], users: "pl.DataFrame",
    catalogue: "pl.DataFrame", *, matching: Matching,
) -> int:  # fmt: skip
    """Writes users and items, then puts the staged interactions in place; returns the number of rows."""
    shown = {name: value for name, value in asdict(params).items() if name not in (*_EXECUTION, *_PREVIOUS)}
    notes = {"numbering": params.numbering}
    provenance = tables.Provenance(stage="sequences", params=shown, inputs=inputs, notes=notes)
    matched = replace(provenance, notes=notes | ({"matching": matching.notes()} if matching.total else {}))
    columns = ("user_id", "user_key", "name", "number", "num_interactions")
    rows = tables.write_table(
        context.table("sequences/users"), schema.USERS, users.select(columns).to_arrow(), provenance
    )
    rows += tables.write_table(context.table("sequences/items"), schema.CATALOGUE, catalogue.to_arrow(), matched)
    return rows + tables.finish_table(context.table("sequences/interactions"), schema.INTERACTIONS, provenance)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage from the command line."""
    return stage.main("sequences", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
