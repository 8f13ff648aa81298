"""Driver of `sequences`: runs the selected engine, assigns numbers and writes the tables.

Reads `records/reviews` and `records/items`. Writes `sequences/users`, `sequences/items`, `sequences/interactions`.
All three tables are built before the first is put in place, so that a failure leaves none half-written.
"""

import logging
import shutil
from dataclasses import asdict
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq

from features import schema
from features.errors import TableError
from features.runtime import datasets, stage
from features.runtime.params import build
from features.store import tables
from pipelines.beam.runner import BeamParams
from pipelines.sequencing import beam_engine, id_assignment, polars_engine
from pipelines.sequencing.config import Params
from pipelines.sequencing.frame_store import Pieces

log = logging.getLogger("vip5")
_EXECUTION = ("engine", "rows_per_bucket", "beam_rounds")  # parameters that do not change a row
# The source of previous numbers is recorded in the champion's pointer, not in the manifests: otherwise the manifests
# would change with every new champion, and all later stages, including training, would run again for the same rows.
_PREVIOUS = ("previous_items", "previous_users")


def write_sequences(params: Params, context: stage.Context) -> int:
    """Writes the three tables of `sequences` and returns their number of rows."""
    inputs = {name: context.table(name) for name in ("records/reviews", "records/items")}
    reviews = {
        part: pq.read_metadata(part).num_rows
        for part in tables.checked_parts(inputs["records/reviews"], schema.REVIEWS)
    }
    metadata = pl.scan_parquet(tables.checked_parts(inputs["records/items"], schema.ITEMS))
    num_buckets = max(-(-sum(reviews.values()) // params.rows_per_bucket), 1)
    work = context.table("sequences").with_name(".sequences.work")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    staging = tables.begin_table(context.table(schema.INTERACTIONS.name))
    try:
        in_memory = params.engine == "polars" and num_buckets == 1
        rules = polars_engine.Rules(params=params, seed=context.seed)
        pieces = Pieces(folder=None if in_memory else work.resolve())
        beam = build(BeamParams, context.shared["beam"], where="beam")
        job = beam_engine.Job(rules=rules, num_buckets=num_buckets, pieces=pieces, beam=beam)
        _write_ordered(job, list(polars_engine.batches(reviews)))
        users, items = numbered(params, context, job.pieces, sum(reviews.values()))
        catalogue = id_assignment.with_metadata(items, metadata)
        _write_parts(job, users, items, staging)
        shown = {name: value for name, value in asdict(params).items() if name not in (*_EXECUTION, *_PREVIOUS)}
        provenance = tables.Provenance(
            stage="sequences", params=shown, inputs=inputs, notes={"numbering": params.numbering}
        )
        return _finish(context, users, catalogue, provenance)
    finally:  # nothing is left to remove after a success
        shutil.rmtree(work, ignore_errors=True)
        shutil.rmtree(staging, ignore_errors=True)


def _write_ordered(job: beam_engine.Job, todo: list[polars_engine.Batch]) -> None:
    """Writes the ordered histories with the selected engine."""
    if job.rules.params.engine == "beam":
        beam_engine.write_ordered(job, todo)
    else:
        polars_engine.write_ordered(job.rules, todo, job.num_buckets, job.pieces)


def _write_parts(job: beam_engine.Job, users: pl.DataFrame, items: pl.DataFrame, staging: Path) -> None:
    """Writes the parts of `sequences/interactions` with the selected engine."""
    if job.rules.params.engine == "beam":
        beam_engine.write_parts(job, users, items, staging.resolve())
        return
    for number, rows in id_assignment.parts(job.pieces, users, items):
        tables.write_part(staging, schema.INTERACTIONS, number, rows.to_arrow())


def numbered(
    params: Params, context: stage.Context, pieces: Pieces, num_reviews: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Assigns user and item numbers; see `id_assignment`.

    Raises:
        TableError: The k-core is empty.
    """
    in_file_order = datasets.dataset(context.shared, context.dataset).format == "p5"
    known = _previous(params.previous_users, context, schema.USERS, ("user_key", "user_id", "number"))
    users = id_assignment.users(pieces, params, context.seed, in_file_order=in_file_order, previous=known)
    if users.height == 0:
        raise TableError(
            f"0 of {num_reviews} reviews in the {params.k_core}-core",
            "users and items with enough reviews",
            "lower sequences.k_core, or use a larger dump",
        )
    catalogue = _previous(params.previous_items, context, schema.CATALOGUE, ("item_id", "item_key"))
    items = id_assignment.items(pieces, users, params.numbering, context.seed, catalogue)
    log.info(
        "sequences: %s users, %s items, %s interactions of %s reviews", users.height, items.height,
        users["num_interactions"].sum(), num_reviews,
    )  # fmt: skip
    if params.numbering == "p5":
        log.warning("sequences: numbering p5 leaks: item numbers follow complete histories, including test items")
    return users, items


def _previous(
    path: str | None, context: stage.Context, table: schema.Table, columns: tuple[str, ...]
) -> pl.DataFrame | None:
    """Keys and numbers of the earlier run, or None."""
    if path is None:
        return None
    rows = pl.from_arrow(tables.read_table(context.root / path, table, columns=columns))
    assert isinstance(rows, pl.DataFrame)  # noqa: S101 - a table, not one column
    return rows


def _finish(context: stage.Context, users: pl.DataFrame, catalogue: pl.DataFrame, provenance: tables.Provenance) -> int:
    columns = ("user_id", "user_key", "name", "number", "num_interactions")
    rows = tables.write_table(
        context.table("sequences/users"), schema.USERS, users.select(columns).to_arrow(), provenance
    )
    rows += tables.write_table(context.table("sequences/items"), schema.CATALOGUE, catalogue.to_arrow(), provenance)
    return rows + tables.finish_table(context.table("sequences/interactions"), schema.INTERACTIONS, provenance)
