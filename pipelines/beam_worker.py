"""The DoFn that Beam workers run: it calls a plain function and turns its counts into Beam counters.

Enters: one unit of work. Leaves: counters `stage/<count>`. It holds no logic of its own.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import apache_beam as beam  # noqa: TID253 - only imported by pipelines.beam, behind its door


class DoUnit(beam.DoFn):
    """Calls `work(unit)` and counts what it returns."""

    def __init__(self, stage: str, work: Callable[[Any], Mapping[str, int]]) -> None:
        self.stage, self.work = stage, work

    def process(self, unit: Any) -> Iterator[None]:
        """Does one unit; yields nothing, the rows are already on disk."""
        for name, count in self.work(unit).items():
            beam.metrics.Metrics.counter(self.stage, name).inc(count)
        return iter(())
