"""Beam engine of `sequences`: the same steps as the Polars engine, one bucket per element, shuffled by GroupByKey.

Reads batches of `records/reviews`. Writes the frames `ordered-<bucket>`, ... of `polars_engine`, then the parts of
`sequences/interactions`.
Trade-off: a Beam graph cannot loop, so k-core rounds are unrolled and the last round counts the dropped rows. If that
count is not 0, another pipeline continues with the remaining rows. Workers share the disk with this process.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from features.errors import TableError
from pipelines.beam.runner import BeamParams
from pipelines.sequencing import id_assignment, key_hashing, polars_engine
from pipelines.sequencing.polars_engine import Job

log = logging.getLogger("vip5")
DROPPED, SEEN = "dropped_in_last_round", "seen_in_last_round"


def write_ordered(job: Job, todo: Sequence[polars_engine.Batch]) -> None:
    """Writes the ordered histories, with as many pipelines of `beam_rounds` rounds as needed."""
    number = 0
    while dropped := _write_ordered(job, todo, number):
        log.info(
            "sequences: k-core round %s dropped %s interactions; continuing",
            (number + 1) * job.rules.params.beam_rounds, dropped,
        )  # fmt: skip
        job.pieces.drop(_prefix(number))  # the disk holds at most the input and the output of one pipeline
        number += 1
    job.pieces.drop("left-")


def _write_ordered(job: Job, todo: Sequence[polars_engine.Batch], number: int) -> int:
    """Runs one pipeline; returns the interactions dropped by the user half of its last round, 0 for the k-core.

    After the item half every item has enough interactions, and still has if the user half then drops none. Pipeline 0
    begins with the reviews, later ones with the rows that the previous pipeline left.

    Raises:
        TableError: The runner does not report counters.
    """
    import apache_beam as beam

    from pipelines.sequencing import beam_dofns as worker

    pipeline = _pipeline("sequences", job.beam)
    rules, num_buckets, folder = job.rules, job.num_buckets, job.folder
    k, last = rules.params.k_core, rules.params.beam_rounds - 1
    rows = _remaining(pipeline, job, number) if number else _hashed(pipeline, job, todo)
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
        polars_engine.write_histories(rules, 0, key_hashing.no_interactions(), job.pieces)
    survivors = pl.concat(job.pieces.lazily("user_counts-")).select(pl.col("num").sum()).collect().item()
    if survivors and not counted.get(SEEN):
        raise TableError(
            f"no counters from {job.beam.runner}", "counters, which prove that the k-core is complete",
            "set sequences.engine to polars, or use another beam.runner",
        )  # fmt: skip
    return counted.get(DROPPED, 0)


def _prefix(number: int) -> str:
    """Name prefix of the input frames of pipeline `number`."""
    return f"left-{number:03d}-"


def _hashed(pipeline: Any, job: Job, todo: Sequence[polars_engine.Batch]) -> Any:
    """The deduplicated interactions from the reviews, by bucket of items."""
    import apache_beam as beam

    from pipelines.sequencing import beam_dofns as worker

    return (
        pipeline
        | "list batches of reviews" >> beam.Create(list(todo))
        | "spread batches over workers" >> beam.Reshuffle()
        | "read and hash reviews" >> _do(worker.HashKeys(job.rules, job.num_buckets, job.folder))
        | "gather interactions of users" >> beam.GroupByKey()
        | "dedupe interactions" >> _do(worker.Dedupe(job.rules, job.num_buckets))
    )


def _remaining(pipeline: Any, job: Job, number: int) -> Any:
    """The interactions that earlier rounds left, by bucket of items."""
    import apache_beam as beam

    from pipelines.sequencing import beam_dofns as worker

    return (
        pipeline
        | "list remaining interactions" >> beam.Create(job.pieces.names(_prefix(number)))
        | "spread them over workers" >> beam.Reshuffle()
        | "read remaining interactions" >> _do(worker.ReadRemaining(job.num_buckets, job.folder))
    )


def write_parts(job: Job, users: pl.DataFrame, items: pl.DataFrame, staging: Path) -> None:
    """Writes the parts of `sequences/interactions`.

    Raises:
        TableError: The runner lost or repeated rows.
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
            f"{written} interactions written, {expected} counted", "equal numbers",
            "use another beam.runner: this one lost or repeated work",
        )  # fmt: skip


def _pipeline(name: str, beam_params: BeamParams) -> Any:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    beam_params.check()
    options = PipelineOptions(["--job_name", name, *beam_params.options], save_main_session=False)
    return beam.Pipeline(runner=beam_params.runner, options=options)


def _do(step: Any) -> Any:
    """A ParDo that emits (bucket, Arrow table)."""
    import apache_beam as beam
    import pyarrow as pa

    return beam.ParDo(step).with_output_types(tuple[int, pa.Table])


def _counters(pipeline: Any) -> Mapping[str, int]:
    """Runs the pipeline and returns its counters.

    Raises:
        TableError: The pipeline did not finish.
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
