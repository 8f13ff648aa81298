"""The Beam driver of `sequences`: the same steps as the Polars one, a bucket an element, shuffled by GroupByKey.

Enters: batches of `records/reviews`. Leaves: the pieces `ordered-<bucket>`, ... of `sequence_buckets`, then the parts
of `sequences/interactions`.
Trade-off: a Beam graph cannot loop, so the rounds of the k-core are written out and the last one counts what it drops;
where that is not 0 another pipeline goes on from what is left. Workers share the disk with this process.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from features.errors import TableError
from pipelines.beam.runner import BeamParams
from pipelines.sequencing import id_assignment, key_hashing, polars_engine
from pipelines.sequencing.frame_store import Pieces

log = logging.getLogger("vip5")
DROPPED, SEEN = "dropped_in_last_round", "seen_in_last_round"


@dataclass(frozen=True, kw_only=True)
class Job:
    """What the pipelines work on and where."""

    rules: polars_engine.Rules
    num_buckets: int
    pieces: Pieces
    """In a folder that the workers see."""
    beam: BeamParams

    @property
    def folder(self) -> Path:
        """Where the pieces lie."""
        assert self.pieces.folder is not None  # noqa: S101 - pieces in memory are for one process
        return self.pieces.folder


def write_ordered(job: Job, todo: Sequence[polars_engine.Batch]) -> None:
    """Makes the pieces of the ordered histories, with as many pipelines of `beam_rounds` rounds as it takes."""
    number = 0
    while dropped := _write_ordered(job, todo, number):
        log.info("sequences: round %s dropped %s; goes on", (number + 1) * job.rules.params.beam_rounds, dropped)
        job.pieces.drop(_prefix(number))  # on the disk lie at most what this pipeline read and what it left
        number += 1
    job.pieces.drop("left-")


def _write_ordered(job: Job, todo: Sequence[polars_engine.Batch], number: int) -> int:
    """Interactions that the users' half of the last round dropped; 0 proves that the rest is the k-core.

    Every item has enough interactions after the items' half, and where the users' half then drops none it still has.
    Pipeline `number` begins with what the one before it has left, the first one with the reviews.

    Raises:
        TableError: the runner does not count.
    """
    import apache_beam as beam

    from pipelines.sequencing import beam_dofns as worker

    pipeline = _pipeline("sequences", job.beam)
    rules, num_buckets, folder = job.rules, job.num_buckets, job.folder
    k, last = rules.params.k_core, rules.params.beam_rounds - 1
    rows = _left(pipeline, job, number) if number else _coded(pipeline, job, todo)
    for place in range(last + 1):
        counters = (DROPPED, SEEN) if place == last else None
        rows = (
            rows
            | f"gather items, round {place}" >> beam.GroupByKey()
            | f"drop rare items, round {place}" >> _do(worker.KeepFrequent("item", k, "user", num_buckets))
            | f"gather users, round {place}" >> beam.GroupByKey()
            | f"drop rare users, round {place}"
            >> _do(worker.KeepFrequent("user", k, "user" if counters else "item", num_buckets, counters))
        )
    _ = (
        rows
        | "gather the core of users" >> beam.GroupByKey()
        | "order and write histories" >> beam.ParDo(worker.WriteHistories(rules, folder, _prefix(number + 1)))
    )
    polars_engine.drop_histories(job.pieces)
    counted = _counters(pipeline)
    if not job.pieces.names("ordered-"):
        polars_engine.write_histories(rules, 0, key_hashing.none(), job.pieces)
    survivors = pl.concat(job.pieces.lazily("user_counts-")).select(pl.col("num").sum()).collect().item()
    if survivors and not counted.get(SEEN):
        raise TableError(
            f"no counters from {job.beam.runner}", "counters, which prove that the k-core is found",
            "set sequences.engine to polars, or use another beam.runner",
        )  # fmt: skip
    return counted.get(DROPPED, 0)


def _prefix(number: int) -> str:
    """Of the pieces with which pipeline `number` begins."""
    return f"left-{number:03d}-"


def _coded(pipeline: Any, job: Job, todo: Sequence[polars_engine.Batch]) -> Any:
    """The interactions that count, by bucket of items, from the reviews."""
    import apache_beam as beam

    from pipelines.sequencing import beam_dofns as worker

    return (
        pipeline
        | "list batches of reviews" >> beam.Create(list(todo))
        | "spread batches over workers" >> beam.Reshuffle()
        | "read and code reviews" >> _do(worker.Code(job.rules, job.num_buckets, job.folder))
        | "gather interactions of users" >> beam.GroupByKey()
        | "dedupe interactions" >> _do(worker.Dedupe(job.rules, job.num_buckets))
    )


def _left(pipeline: Any, job: Job, number: int) -> Any:
    """The interactions that earlier rounds have left, by bucket of items."""
    import apache_beam as beam

    from pipelines.sequencing import beam_dofns as worker

    return (
        pipeline
        | "list what is left" >> beam.Create(job.pieces.names(_prefix(number)))
        | "spread it over workers" >> beam.Reshuffle()
        | "read what is left" >> _do(worker.Again(job.num_buckets, job.folder))
    )


def write_parts(job: Job, users: pl.DataFrame, items: pl.DataFrame, staging: Path) -> None:
    """Writes the parts of `sequences/interactions`.

    Raises:
        TableError: the runner lost or repeated rows.
    """
    import apache_beam as beam

    from pipelines.sequencing import beam_dofns as worker

    for side, numbers in (("user", users), ("item", items)):
        job.pieces.write(f"numbers-{side}", numbers.select(id_assignment.NUMBERS[side]))
    pipeline = _pipeline("sequences-numbers", job.beam)
    _ = (
        pipeline
        | "list buckets" >> beam.Create(job.pieces.names("ordered-"))
        | "spread buckets over workers" >> beam.Reshuffle()
        | "number interactions" >> _do(worker.Number(job.folder))
        | "gather rows of parts" >> beam.GroupByKey()
        | "sort and write parts" >> beam.ParDo(worker.WritePart(staging))
    )
    _counters(pipeline)
    written = sum(pq.read_metadata(part).num_rows for part in staging.glob("part-*.parquet"))
    expected = users["num_interactions"].sum()
    if written != expected:
        raise TableError(
            f"{written} interactions written where {expected} were counted", "as many",
            "another beam.runner: this one lost or repeated work",
        )  # fmt: skip


def _pipeline(name: str, beam_params: BeamParams) -> Any:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    beam_params.check()
    options = PipelineOptions(["--job_name", name, *beam_params.options], save_main_session=False)
    return beam.Pipeline(runner=beam_params.runner, options=options)


def _do(step: Any) -> Any:
    """A ParDo that hands on (bucket, Arrow table)."""
    import apache_beam as beam
    import pyarrow as pa

    return beam.ParDo(step).with_output_types(tuple[int, pa.Table])


def _counters(pipeline: Any) -> Mapping[str, int]:
    """Runs the pipeline and gives its counters.

    Raises:
        TableError: it did not finish.
    """
    from apache_beam.metrics import MetricsFilter

    from pipelines.sequencing.beam_dofns import COUNTERS

    result = pipeline.run()
    state = result.wait_until_finish()
    if state != "DONE":
        raise TableError(f"sequences in the state {state}", "DONE", "read the runner's log")
    counters = result.metrics().query(MetricsFilter().with_namespace(COUNTERS))["counters"]
    return {
        entry.key.metric.name: int(entry.committed if entry.committed is not None else entry.attempted)
        for entry in counters
    }
