"""Hashes user and item keys to 64-bit integers, so that batches are processed independently on any machine.

Reads a batch of `records/reviews` without texts. Returns its interactions as integers, and the key behind each hash.
Trade-off: hashes need no global dictionary. Two keys may collide, with probability 1e-4 among the 54 million users of
the largest dump; `resolve_keys` detects collisions and raises.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import xxhash

from features.errors import TableError
from features.runtime.seeds import stable_hash

INTERACTION_TYPES: dict[str, type[pl.DataType]] = {
    "user": pl.UInt64, "item": pl.UInt64, "rating": pl.Float32, "timestamp": pl.Int64, "position": pl.Int32,
    "row": pl.Int64,
}  # fmt: skip
REVIEW_COLUMNS = ("user_key", "item_key", "rating", "timestamp", "user_name", "position")


@dataclass(frozen=True)
class HashedReviews:
    """One batch. `interactions`: `user`, `item` (hashes), `rating`, `timestamp`, `position`, `row` (index in the dump).

    `users`: `user`, `user_key`, `name`, `name_time`, `name_row`, one row per user; `items`: `item`, `item_key`.
    """

    interactions: pl.DataFrame
    users: pl.DataFrame
    items: pl.DataFrame


def no_interactions() -> pl.DataFrame:
    """An empty frame of interactions."""
    return pl.DataFrame(schema=INTERACTION_TYPES)


def salt(seed: int) -> int:
    """The seed of the hashes, which also order interactions in the same second."""
    return stable_hash(seed, "sequences", "ties")


def hash_keys(reviews: pl.DataFrame, first_row: int, hash_seed: int) -> HashedReviews:
    """Hashes the keys of one batch of reviews.

    Args:
        reviews: REVIEW_COLUMNS of consecutive rows of `records/reviews`.
        first_row: Index of the first of these rows in the table.
        hash_seed: Seed from `salt`.
    """
    columns = {}
    for side in ("user", "item"):
        keys = reviews[f"{side}_key"].unique()
        places = reviews[f"{side}_key"].cast(pl.Enum(keys)).to_physical().to_numpy()
        columns[side] = pl.Series(side, hashes(keys, hash_seed)[places], dtype=pl.UInt64)
    rows = pl.int_range(first_row, first_row + reviews.height, dtype=pl.Int64, eager=True)
    frame = reviews.with_columns(columns["user"], columns["item"], row=rows)
    users = frame.select("user", "user_key").unique("user").join(_newest_names(frame, first_row), on="user", how="left")
    items = frame.select("item", "item_key").unique("item")
    return HashedReviews(frame.select(list(INTERACTION_TYPES)), users, items)


def hashes(keys: pl.Series, hash_seed: int) -> np.ndarray:
    """XXH64 of every key in UTF-8, (N,) uint64.

    Example:
        >>> hashes(pl.Series(["A1"]), 0)
        array([1432192815138480888], dtype=uint64)
    """
    digest = xxhash.xxh64_intdigest
    return np.fromiter((digest(key.encode(), hash_seed) for key in keys), dtype=np.uint64, count=len(keys))


def _newest_names(frame: pl.DataFrame, first_row: int) -> pl.DataFrame:
    """`user`, `name`, `name_time`, `name_row` of each user's newest review with a name; the last if times tie."""
    named = frame.lazy().filter(pl.col("user_name").is_not_null()).select("user", name_time="timestamp", name_row="row")
    newest = newest_named(named).collect()
    return newest.with_columns(name=frame["user_name"].gather(newest["name_row"] - first_row))


def newest_named(named: pl.LazyFrame) -> pl.LazyFrame:
    """The row of each user with the greatest time, then row."""
    return named.sort("name_time", "name_row").unique("user", keep="last")


def resolve_keys(pieces: Sequence[pl.LazyFrame], side: str, wanted: pl.DataFrame) -> pl.DataFrame:
    """Adds the keys behind the hashes in `wanted`: `user_key` and `name`, or `item_key`, one row per hash.

    Args:
        pieces: `users` (or `items`) of all batches.
        side: "user" or "item".
        wanted: A column of this name with the surviving hashes; other columns are kept.

    Raises:
        TableError: Two keys have the same hash.
    """
    matches = pl.concat(list(pieces)).join(wanted.lazy().select(side), on=side, how="semi")
    pairs = matches.select(side, f"{side}_key").unique().collect(engine="streaming")
    if pairs.height != wanted.height:
        raise TableError(
            f"{pairs.height} {side} keys where there are {wanted.height} hashes of them",
            "one key per hash", "change `seed` in params.yaml, which seeds the hashes",
        )  # fmt: skip
    rows = wanted.join(pairs, on=side, how="inner")
    if side == "user":
        named = matches.filter(pl.col("name").is_not_null()).drop("user_key")
        names = newest_named(named).select("user", "name").collect(engine="streaming")
        rows = rows.join(names, on="user", how="left")
    return rows
