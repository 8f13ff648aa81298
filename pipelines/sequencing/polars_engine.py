"""Polars engine of `sequences`: from batches of reviews to ordered histories, one bucket of users at a time.

Reads batches of `records/reviews`. Writes frames `ordered-<bucket>`, `user_counts-<bucket>`, `item_counts-<bucket>`
and, per batch, `user_keys-...` and `item_keys-...`; then the parts of `sequences/interactions`.
Trade-off: global state is two small integers per interaction and one count per item; everything else is done per
bucket, so memory grows with the bucket size and the number of users and items, not with the reviews.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from features import schema
from features.store import tables
from pipelines.beam.runner import BeamParams
from pipelines.sequencing import id_assignment, key_hashing, transforms
from pipelines.sequencing.config import LEAST_INTERACTIONS, Params
from pipelines.sequencing.frame_store import Pieces

ROWS_PER_BATCH = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Consecutive parts of `records/reviews`, beginning at row `first_row` of the table."""

    number: int
    first_row: int
    paths: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Filters and orders the interactions of a user."""

    params: Params
    seed: int

    def deduped(self, interactions: pl.DataFrame) -> pl.DataFrame:
        """Drops duplicate reviews, then users with fewer than `k_core` interactions; `interactions` is one bucket."""
        once = transforms.deduped(interactions, self.params.duplicate_reviews)
        return transforms.frequent(once, "user", self.params.k_core)

    def ordered(self, core: pl.DataFrame) -> pl.DataFrame:
        """The ordered histories of a bucket of users."""
        with_ties = transforms.add_tie_break(core, self.params.tie_break)
        most = self.params.max_interactions_per_user
        return transforms.ordered(with_ties, most, LEAST_INTERACTIONS).drop("tie")


@dataclass(frozen=True, kw_only=True)
class Job:
    """One run of an engine; `beam` is only for the Beam engine, whose `pieces` are in a folder that workers access."""

    rules: Rules
    num_buckets: int
    pieces: Pieces
    beam: BeamParams

    @property
    def folder(self) -> Path:
        """The folder of the frames."""
        assert self.pieces.folder is not None  # noqa: S101 - pieces in memory are for one process
        return self.pieces.folder


def batches(parts: Mapping[Path, int], rows_per_batch: int = ROWS_PER_BATCH) -> Iterator[Batch]:
    """Groups the parts of a table (path to number of rows) into batches of about `rows_per_batch` rows."""
    first_row, rows, number = 0, 0, 0
    paths: list[Path] = []
    for path, size in parts.items():
        paths.append(path)
        rows += size
        if rows >= rows_per_batch:
            yield Batch(number=number, first_row=first_row, paths=tuple(paths))
            first_row, rows, paths, number = first_row + rows, 0, [], number + 1
    if paths:
        yield Batch(number=number, first_row=first_row, paths=tuple(paths))


def read(batch: Batch) -> pl.DataFrame:
    """Reads the reviews of a batch, without texts."""
    return pl.scan_parquet(list(batch.paths)).select(key_hashing.REVIEW_COLUMNS).collect()


def bucket_of(side: transforms.Side, num_buckets: int) -> pl.Expr:
    """The bucket, from 0, of a row's user (or item)."""
    return (pl.col(side) % num_buckets).cast(pl.Int32)


def by_bucket(frame: pl.DataFrame, side: transforms.Side, num_buckets: int) -> Iterator[tuple[int, pl.DataFrame]]:
    """Partitions `frame` by the hashes of its users (or items); yields (bucket, rows) in bucket order."""
    parts = frame.with_columns(bucket=bucket_of(side, num_buckets)).partition_by(
        "bucket", include_key=False, as_dict=True
    )
    for (bucket,) in sorted(parts):
        yield int(bucket), parts[(bucket,)]


def write_ordered(job: Job, todo: Sequence[Batch]) -> None:
    """Writes the frames of all batches and buckets."""
    for batch in todo:
        write_hashed(job.rules, batch, read(batch), job.num_buckets, job.pieces)
    write_cores(job.rules, job.num_buckets, job.pieces)


def write_parts(job: Job, users: pl.DataFrame, items: pl.DataFrame, staging: Path) -> None:
    """Writes the parts of `sequences/interactions`."""
    for number, rows in id_assignment.parts(job.pieces, users, items):
        tables.write_part(staging, schema.INTERACTIONS, number, rows.to_arrow())


def write_hashed(rules: Rules, batch: Batch, reviews: pl.DataFrame, num_buckets: int, pieces: Pieces) -> None:
    """Writes the hashed interactions of one batch, sorted by bucket."""
    bucketed = hash_keys(rules, batch, reviews, pieces).with_columns(bucket=bucket_of("user", num_buckets))
    pieces.write(f"hashed-{batch.number:06d}", bucketed.sort("bucket", maintain_order=True))


def write_cores(rules: Rules, num_buckets: int, pieces: Pieces) -> None:
    """Deduplicates, filters to the k-core and writes the histories of all buckets."""
    for bucket, rows in pieces.partitions("hashed-", "bucket", num_buckets):
        pieces.write(f"deduped-{bucket:05d}", rules.deduped(rows.drop("bucket")))
    pieces.drop("hashed-")
    for bucket, mask in enumerate(_masks(rules.params.k_core, num_buckets, pieces)):
        core = pieces.read(f"deduped-{bucket:05d}").filter(pl.Series(mask, dtype=pl.Boolean))
        write_histories(rules, bucket, core, pieces)
        pieces.drop(f"deduped-{bucket:05d}")


def hash_keys(rules: Rules, batch: Batch, reviews: pl.DataFrame, pieces: Pieces) -> pl.DataFrame:
    """Hashes the keys of one batch; returns its interactions and writes the keys behind the hashes as two frames."""
    hashed = key_hashing.hash_keys(reviews, batch.first_row, key_hashing.salt(rules.seed))
    pieces.write(f"user_keys-{batch.number:06d}", hashed.users)
    pieces.write(f"item_keys-{batch.number:06d}", hashed.items)
    return hashed.interactions


def write_histories(rules: Rules, bucket: int, core: pl.DataFrame, pieces: Pieces) -> None:
    """Writes the ordered histories and counts of one bucket."""
    ordered = rules.ordered(core)
    pieces.write(f"ordered-{bucket:05d}", ordered)
    pieces.write(f"user_counts-{bucket:05d}", transforms.user_counts(ordered))
    pieces.write(f"item_counts-{bucket:05d}", transforms.item_counts(ordered))


def drop_histories(pieces: Pieces) -> None:
    """Drops the frames of earlier `write_histories` calls."""
    for prefix in ("ordered-", "user_counts-", "item_counts-"):
        pieces.drop(prefix)


def _masks(k: int, num_buckets: int, pieces: Pieces) -> list[np.ndarray]:
    """Masks of the rows of `deduped-<bucket>` that are in the k-core."""
    scans = pl.concat(pieces.lazily("deduped-"))
    items = scans.select("item").unique().collect(engine="streaming")["item"].sort().to_numpy()
    for bucket in range(num_buckets):
        frame = pieces.read(f"deduped-{bucket:05d}")
        users = frame["user"].rank("dense").cast(pl.UInt32) - 1
        places = pl.Series("item", np.searchsorted(items, frame["item"].to_numpy()), dtype=pl.UInt32)
        pieces.write(f"places-{bucket:05d}", pl.DataFrame([users.alias("user"), places]))

    def read_places(bucket: int) -> tuple[np.ndarray, np.ndarray]:
        places = pieces.read(f"places-{bucket:05d}")
        return places["user"].to_numpy(), places["item"].to_numpy()

    masks = transforms.core_masks(read_places, num_buckets, len(items), k)
    pieces.drop("places-")
    return masks
