"""Runs units of work on Apache Beam and returns their summed counts.

Reads small picklable units (a file and a reader, a range of users) and a plain function that processes one unit.
Rows are not returned: units write Parquet parts named after themselves.
Trade-off: a unit is thousands of rows, which hides Beam's cost per element (20 to 40 times that of a Polars row).
Workers must share the disk that holds the tables (docs/guides/beam.md).
"""

import functools
import json
import logging
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from features import errors
from features.errors import ParamsError, TableError

Unit = TypeVar("Unit")
Counts = Mapping[str, int]

log = logging.getLogger("vip5")

_LOSES_DATA = {
    "DaskRunner": "file sinks finish with empty output (measured with Beam 2.77)",
    "DirectRunner": "it tries to download a Go binary before it falls back",
}


@dataclass(frozen=True, kw_only=True)
class BeamParams:
    """The shared section `beam`: where the row-parallel stages run."""

    runner: str = "FnApiRunner"
    """Beam runner: FnApiRunner (this process), PortableRunner, FlinkRunner, SparkRunner, DataflowRunner."""
    options: tuple[str, ...] = ()
    """Command-line options of that runner, such as --direct_num_workers=2 --direct_running_mode=multi_processing."""

    def check(self) -> None:
        """Raises ParamsError for a runner or mode that is known to lose rows silently."""
        for name, why in _LOSES_DATA.items():
            if self.runner.endswith(name):
                raise ParamsError(
                    f"beam.runner = {self.runner}", f"FnApiRunner or a portable runner, because {why}", "change it"
                )
        if any("multi_threading" in option for option in self.options):
            raise ParamsError(
                "beam.options with direct_running_mode=multi_threading",
                "in_memory or multi_processing: threads lose rows",
                "change it",
            )


def run_units(
    stage: str, units: Sequence[Unit], work: Callable[[Unit], Counts], params: BeamParams, ledger: Path | None = None
) -> dict[str, int]:
    """Processes every unit once and returns the sum of their counts.

    The sums travel through the pipeline as data, into the file `ledger`. Beam's counters `stage/<count>` are only for
    monitoring, because a runner may count a retried unit twice.

    Args:
        stage: Name of the pipeline and namespace of its Beam counters.
        units: Units of work; each must be small and picklable, and refer to files by absolute paths.
        work: A module-level function (or functools.partial of one); must be idempotent.
        params: Runner and options.
        ledger: A file on the workers' shared disk, deleted at the end; None for a file in `work/beam`.

    Raises:
        ParamsError: The runner is known to lose rows.
        VIP5Error: The error that `work` raised, on any machine.
        TableError: The runner failed, or did not process every unit once.
    """
    params.check()
    ledger = (ledger or Path("work", "beam", f"{stage}-{uuid.uuid4().hex}.json")).resolve()
    ledger.unlink(missing_ok=True)
    ledger.parent.mkdir(parents=True, exist_ok=True)
    _run(stage, units, work, params, ledger)
    if not ledger.is_file():
        raise TableError(
            f"no counts of {stage} in {ledger} after the runner finished", "one file of counts",
            "use another beam.runner, or a disk that the workers share: this runner lost the work",
        )  # fmt: skip
    totals = {tuple(json.loads(key)): int(n) for key, n in json.loads(ledger.read_text(encoding="utf-8"))}
    ledger.unlink()
    return _settled(stage, len(units), totals)


def _run(stage: str, units: Sequence[Unit], work: Callable[[Unit], Counts], params: BeamParams, ledger: Path) -> None:
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    options = PipelineOptions(["--job_name", stage, *params.options], save_main_session=False)
    pipeline = beam.Pipeline(runner=params.runner, options=options)
    process = functools.partial(process_unit, stage, work)
    _ = (
        pipeline
        | "list units of work" >> beam.Create(list(units), reshuffle=False)  # one shuffle spreads neighbours
        | "spread units over workers" >> beam.Reshuffle()
        | f"do {stage}" >> beam.FlatMap(process).with_output_types(tuple[str, int])
        | "sum counts by name" >> beam.CombinePerKey(sum)
        | "gather counts" >> beam.combiners.ToList()
        | "write counts" >> beam.Map(functools.partial(write_counts, str(ledger)))
    )
    state = pipeline.run().wait_until_finish()
    if state != "DONE":
        raise TableError(f"{stage} in the state {state} on {params.runner}", "DONE", "read the runner's log")


def process_unit(stage: str, work: Callable[[Any], Counts], unit: Any) -> list[tuple[str, int]]:
    """Processes one unit on a worker and updates Beam's counters; its rows are on disk when this returns.

    Returns:
        (name, count) pairs for the sums, with names as JSON lists: `["units"]` for the unit itself and
        `["count", name]`, or, if the unit fails, only `["failed", type of the error, found, expected, action]`.
    """
    from apache_beam.metrics import Metrics

    named: dict[tuple[str, ...], int]
    try:
        named = {("units",): 1} | {("count", name): count for name, count in work(unit).items()}
    except errors.VIP5Error as error:
        named = {("failed", type(error).__name__, error.found, error.expected, error.action): 1}
    for (kind, *fields), count in named.items():
        Metrics.counter(stage, fields[0] if kind == "count" else kind).inc(count)
    return [(json.dumps(name), count) for name, count in named.items()]


def write_counts(ledger: str, counts: Sequence[tuple[str, int]]) -> None:
    """Writes the sums of all units to the file `ledger`, atomically; idempotent."""
    path = Path(ledger)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(sorted(counts)), encoding="utf-8")
    temporary.rename(path)


def _settled(stage: str, num_units: int, totals: Mapping[tuple[str, ...], int]) -> dict[str, int]:
    """The counts, after checking that no unit failed and every unit was processed once."""
    failures = sorted(key for key in totals if key[0] == "failed")
    for _, name, *fields in failures[1:4]:
        log.error("%s: %s", stage, getattr(errors, name)(*fields))
    if failures:
        _, name, *fields = failures[0]
        error: errors.VIP5Error = getattr(errors, name)(*fields)
        raise error
    done = totals.get(("units",), 0)
    if done != num_units:
        raise TableError(
            f"{done} units of {stage} done", f"{num_units}, each once", "use another beam.runner: this one lost work"
        )
    return {key[1]: count for key, count in totals.items() if key[0] == "count"}
