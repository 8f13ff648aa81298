"""DoFns that Beam workers run: they call plain functions, update Beam counters and write the sums.

Reads one unit of work, then the sums of all. Writes counters `stage/<count>` and the ledger of `run_units`.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam  # noqa: TID253 - only imported by pipelines.beam.runner, behind its door

from pipelines.beam.counts import unit_counts


class DoUnit(beam.DoFn):
    """Calls `work(unit)` and yields (name, count) for the sums; see `pipelines.beam.counts.unit_counts`."""

    def __init__(self, stage: str, work: Callable[[Any], Mapping[str, int]]) -> None:
        self.stage, self.work = stage, work

    def process(self, unit: Any) -> Iterator[tuple[str, int]]:
        """Processes one unit; its rows are on disk when its counts are yielded."""
        for name, count in unit_counts(self.work, unit):
            kind, *fields = json.loads(name)
            beam.metrics.Metrics.counter(self.stage, fields[0] if kind == "count" else kind).inc(count)
            yield name, count


class WriteCounts(beam.DoFn):
    """Writes the sums of all units atomically."""

    def __init__(self, ledger: str) -> None:
        self.ledger = ledger

    def process(self, counts: Sequence[tuple[str, int]]) -> None:
        """Writes the single element; idempotent."""
        path = Path(self.ledger)
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        temporary.write_text(json.dumps(sorted(counts)), encoding="utf-8")
        temporary.rename(path)
