"""The one door to Apache Beam: units of work in, summed counters out, on any runner that keeps every row.

Enters: small picklable units (a file and a stride, a range of users) and a plain function that does one unit.
Leaves: the sum of the counts the function returned; the rows themselves go to Parquet parts named by unit.
Trade-off: a unit is thousands of rows, so Beam's cost per element (20-40 times a Polars row) disappears.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from features.errors import ParamsError

Unit = TypeVar("Unit")
Counts = Mapping[str, int]

_LOSES_DATA = {
    "DaskRunner": "file sinks finish with empty output (measured with Beam 2.77)",
    "DirectRunner": "it tries to download a Go binary before it falls back",
}


@dataclass(frozen=True, kw_only=True)
class BeamParams:
    """Where the row-parallel stages run."""

    runner: str = "FnApiRunner"
    """Beam runner: FnApiRunner (this process), PortableRunner, FlinkRunner, SparkRunner, DataflowRunner."""
    options: tuple[str, ...] = ()
    """Command-line options of that runner, such as --direct_num_workers=2 --direct_running_mode=multi_processing."""

    def check(self) -> None:
        """Raises ParamsError for a runner or mode that loses rows silently."""
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


def run_units(stage: str, units: Sequence[Unit], work: Callable[[Unit], Counts], params: BeamParams) -> dict[str, int]:
    """Does every unit once and returns the sum of their counts.

    Args:
        stage: name of the pipeline and namespace of its Beam counters.
        units: what to do; each must be picklable and small.
        work: a module-level function (or functools.partial of one); it must be safe to repeat on the same unit.
        params: the runner.

    Raises:
        ParamsError: a runner that is known to lose rows.
    """
    params.check()
    import apache_beam as beam
    from apache_beam.metrics import MetricsFilter
    from apache_beam.options.pipeline_options import PipelineOptions

    options = PipelineOptions(["--job_name", stage, *params.options], save_main_session=False)
    pipeline = beam.Pipeline(runner=params.runner, options=options)
    _ = (
        pipeline
        | "list units of work" >> beam.Create(list(units))
        | "spread units over workers" >> beam.Reshuffle()
        | f"do {stage}" >> beam.ParDo(_doer(stage, work))
    )
    result = pipeline.run()
    result.wait_until_finish()
    counters = result.metrics().query(MetricsFilter().with_namespace(stage))["counters"]
    return {entry.key.metric.name: int(entry.result) for entry in counters}


def _doer(stage: str, work: Callable[[Any], Counts]) -> Any:
    from pipelines.beam_worker import DoUnit

    return DoUnit(stage, work)
