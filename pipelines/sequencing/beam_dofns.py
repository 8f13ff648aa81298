"""DoFns of `sequences` under Beam: each processes the tables of one bucket and emits rows for the next step.

Reads batches, or (bucket, tables). Emits (bucket, table) and writes frames to disk.
They hold no logic of their own: the steps are those of `polars_engine` and `id_assignment`.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path

import apache_beam as beam  # noqa: TID253 - imported inside functions of beam_engine only
import polars as pl
import pyarrow as pa

from features import schema
from features.store import tables
from pipelines.sequencing import id_assignment, polars_engine, transforms
from pipelines.sequencing.frame_store import Pieces

Keyed = tuple[int, pa.Table]
COUNTERS = "sequences"


class HashKeys(beam.DoFn):
    """Reads and hashes a batch; emits its interactions by bucket of users and writes the keys as frames."""

    def __init__(self, rules: polars_engine.Rules, num_buckets: int, folder: Path) -> None:
        self.rules, self.num_buckets, self.folder = rules, num_buckets, folder

    def process(self, batch: polars_engine.Batch) -> Iterator[Keyed]:
        """One batch."""
        reviews = polars_engine.read(batch)
        hashed = polars_engine.hash_keys(self.rules, batch, reviews, Pieces(folder=self.folder))
        yield from _keyed(polars_engine.by_bucket(hashed, "user", self.num_buckets))


class Dedupe(beam.DoFn):
    """Deduplicates the interactions of a bucket of users; emits them by bucket of items."""

    def __init__(self, rules: polars_engine.Rules, num_buckets: int) -> None:
        self.rules, self.num_buckets = rules, num_buckets

    def process(self, keyed: tuple[int, Iterable[pa.Table]]) -> Iterator[Keyed]:
        """One bucket."""
        yield from _keyed(polars_engine.by_bucket(self.rules.deduped(_joined(keyed[1])), "item", self.num_buckets))


class KeepFrequent(beam.DoFn):
    """Half a k-core round: emits the rows of frequent users (or items) by bucket of items (or users)."""

    def __init__(
        self,
        side: transforms.Side,
        k: int,
        to: transforms.Side,
        num_buckets: int,
        counters: tuple[str, str] | None = None,
    ) -> None:
        self.side, self.k, self.to, self.num_buckets = side, k, to, num_buckets
        self.counters = [beam.metrics.Metrics.counter(COUNTERS, name) for name in counters or ()]

    def process(self, keyed: tuple[int, Iterable[pa.Table]]) -> Iterator[Keyed]:
        """One bucket."""
        rows = _joined(keyed[1])
        kept = transforms.frequent(rows, self.side, self.k)
        for counter, count in zip(self.counters, (rows.height - kept.height, rows.height), strict=False):
            counter.inc(count)
        yield from _keyed(polars_engine.by_bucket(kept, self.to, self.num_buckets))


class ReadRemaining(beam.DoFn):
    """Reads the rows that an earlier pipeline left of a bucket of users; emits them by bucket of items."""

    def __init__(self, num_buckets: int, folder: Path) -> None:
        self.num_buckets, self.folder = num_buckets, folder

    def process(self, name: str) -> Iterator[Keyed]:
        """One frame."""
        yield from _keyed(polars_engine.by_bucket(Pieces(folder=self.folder).read(name), "item", self.num_buckets))


class WriteHistories(beam.DoFn):
    """Writes the ordered histories of a bucket of users, and the rows that they were made from."""

    def __init__(self, rules: polars_engine.Rules, folder: Path, prefix: str) -> None:
        self.rules, self.folder, self.prefix = rules, folder, prefix

    def process(self, keyed: tuple[int, Iterable[pa.Table]]) -> Iterator[None]:
        """One bucket; yields nothing."""
        left, pieces = _joined(keyed[1]), Pieces(folder=self.folder)
        pieces.write(f"{self.prefix}{keyed[0]:05d}", left)
        polars_engine.write_histories(self.rules, keyed[0], left, pieces)
        return iter(())


class Number(beam.DoFn):
    """Numbers the rows of a frame of ordered histories; emits them by part of the table."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def process(self, name: str) -> Iterator[Keyed]:
        """One frame."""
        pieces = Pieces(folder=self.folder)
        rows = id_assignment.numbered(pieces.read(name), pieces.read("numbers-user"), pieces.read("numbers-item"))
        yield from _keyed(id_assignment.by_part(rows))


class WritePart(beam.DoFn):
    """Writes one part of `sequences/interactions`."""

    def __init__(self, staging: Path) -> None:
        self.staging = staging

    def process(self, keyed: tuple[int, Iterable[pa.Table]]) -> Iterator[None]:
        """One part; yields nothing."""
        rows = _joined(keyed[1]).sort("user_id", "position")
        tables.write_part(self.staging, schema.INTERACTIONS, keyed[0], rows.to_arrow())
        return iter(())


def _keyed(frames: Iterable[tuple[int, pl.DataFrame]]) -> Iterator[Keyed]:
    for key, frame in frames:
        yield key, frame.to_arrow()


def _joined(tables: Iterable[pa.Table]) -> pl.DataFrame:
    frame = pl.from_arrow(pa.concat_tables(tables))
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - a table, not one column
    return frame
