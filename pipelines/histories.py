"""The steps from reviews to numbered, split histories: pure functions over Polars frames.

Enters: a frame with `user_key`, `item_key`, `rating`, `timestamp`, `source`, `line`, `position`. Leaves: frames.
Trade-off: each step takes and gives a whole frame, so that it can be tested alone and run by bucket elsewhere.

A frame of interactions has the columns `user` and `item` (codes: places in the sorted keys), `rating`, `timestamp`,
`position` (0 unless the dump states an order), `row` (place in the file) and `tie`.
"""

from typing import Literal

import numpy as np
import polars as pl
import xxhash

from features.seeds import rng, stable_hash

Ties = Literal["hash", "file"]
Repeats = Literal["first", "last", "all"]
Numbering = Literal["random", "train_first", "p5"]
TIME_ORDER = ("timestamp", "position", "tie", "item")


def coded(reviews: pl.DataFrame) -> tuple[pl.DataFrame, pl.Series, pl.Series]:
    """(interactions, user keys, item keys): keys replaced by their places in the two sorted series."""
    ordered = reviews.sort("source", "line", "position").with_row_index("row")
    users = ordered["user_key"].unique().sort()
    items = ordered["item_key"].unique().sort()
    frame = ordered.select(
        user=ordered["user_key"].cast(pl.Enum(users)).to_physical(),
        item=ordered["item_key"].cast(pl.Enum(items)).to_physical(),
        rating="rating",
        timestamp="timestamp",
        position="position",
        row="row",
    )
    return frame, users, items


def tied(frame: pl.DataFrame, users: pl.Series, items: pl.Series, ties: Ties, seed: int) -> pl.DataFrame:
    """`frame` with `tie`, which orders a user's interactions of the same second.

    "hash" mixes the XXH64 of both keys and the seed, so the order tells nothing about the item or the file;
    "file" is the place in the file, which in the Amazon dumps is the order of the item keys.
    """
    if ties == "file":
        return frame.with_columns(tie=pl.col("row").cast(pl.UInt64))
    salt = stable_hash(seed, "sequences", "ties")
    user_hashes, item_hashes = (
        np.fromiter((xxhash.xxh64_intdigest(key.encode(), seed=salt) for key in keys), dtype=np.uint64, count=len(keys))
        for keys in (users, items)
    )
    mixed = _mixed(user_hashes[frame["user"].to_numpy()] ^ _mixed(item_hashes[frame["item"].to_numpy()]))
    return frame.with_columns(tie=pl.Series(mixed, dtype=pl.UInt64))


def _mixed(values: np.ndarray) -> np.ndarray:
    """The finaliser of SplitMix64 (Steele, Lea and Flood 2014): one bit of input changes half the output."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = values ^ (values >> np.uint64(31))
    return mixed


def deduped(frame: pl.DataFrame, repeats: Repeats) -> pl.DataFrame:
    """One row an interaction: same user, item and time is one (the first in the file); then the rule for repeats.

    Example:
        Times 3, 3, 7 of one user and item: "first" keeps one row (3), "last" one (7), "all" two (3, 7).
    """
    once = frame.sort("row").unique(["user", "item", "timestamp", "position"], keep="first", maintain_order=True)
    if repeats == "all":
        return once
    by_time = once.sort("timestamp", "position", "row")
    return by_time.unique(["user", "item"], keep=repeats, maintain_order=True).sort("row")


def k_core(frame: pl.DataFrame, k: int) -> pl.DataFrame:
    """The largest part of `frame` in which every user and every item has at least `k` rows.

    Rows are dropped in rounds until a round drops none; the result does not depend on the order of the rows.
    """
    while True:
        kept = frame.filter((pl.len().over("user") >= k) & (pl.len().over("item") >= k))
        if kept.height == frame.height:
            return kept
        frame = kept


def ordered(frame: pl.DataFrame, most: int | None, least: int) -> pl.DataFrame:
    """Rows by user and time, `position` from 1 on, `num` (rows of the user); only the newest `most` of a user.

    Users with fewer than `least` rows are dropped: they cannot be split.
    """
    placed = frame.sort("user", *TIME_ORDER).with_columns(
        place=pl.int_range(1, pl.len() + 1, dtype=pl.Int32).over("user"), num=pl.len().over("user").cast(pl.Int32)
    )
    if most is not None:
        skipped = (pl.col("num") - most).clip(lower_bound=0)
        placed = placed.filter(pl.col("place") > skipped).with_columns(
            place=pl.col("place") - skipped, num=pl.col("num").clip(upper_bound=most)
        )
    return placed.filter(pl.col("num") >= least).with_columns(position="place").drop("place")


def with_split(frame: pl.DataFrame) -> pl.DataFrame:
    """Leave-one-out: a user's last row is test, the last but one valid, the rest train.

    Example:
        Positions 1, 2, 3, 4 become train, train, valid, test.
    """
    from_end = pl.col("num") - pl.col("position")
    split = pl.when(from_end == 0).then(pl.lit("test")).when(from_end == 1).then(pl.lit("valid"))
    return frame.with_columns(split=split.otherwise(pl.lit("train")))


def user_numbers(frame: pl.DataFrame, seed: int, *, in_file_order: bool) -> pl.DataFrame:
    """`user` to `user_id` 1..U: by a seeded permutation of the sorted keys, or in the order of the file."""
    if in_file_order:
        users = frame.group_by("user").agg(pl.col("row").min()).sort("row")["user"]
    else:
        present = frame["user"].unique().sort()
        users = present.gather(rng(seed, "sequences", "users").permutation(present.len()))
    return pl.DataFrame({"user": users, "user_id": np.arange(1, users.len() + 1, dtype=np.int32)})


def shown_numbers(num_users: int, seed: int) -> pl.Series:
    """The numbers that prompts write for the users 1..U: a seeded permutation that forgets their order."""
    drawn = rng(seed, "sequences", "shown").permutation(num_users) + 1
    return pl.Series(drawn, dtype=pl.Int32)


def item_numbers(frame: pl.DataFrame, numbering: Numbering, seed: int) -> pl.DataFrame:
    """`item` to `item_id` 1..I; `frame` is split and has `user_id`.

    "random" permutes the sorted keys. "train_first" numbers the items of the train split by first appearance, walking
    through the users in order, then the rest in permuted order. "p5" walks through complete histories: a test item
    that nobody bought before gets the number after the history's, so numbers tell the answer.
    """
    walk = frame.sort("user_id", "position")
    present = frame["item"].unique().sort()
    permuted = present.gather(rng(seed, "sequences", "items").permutation(present.len()))
    match numbering:
        case "random":
            items = permuted
        case "train_first":
            trained = walk.filter(pl.col("split") == "train")["item"]
            items = pl.concat([trained, permuted]).unique(maintain_order=True)
        case "p5":
            items = walk["item"].unique(maintain_order=True)
    return pl.DataFrame({"item": items, "item_id": np.arange(1, items.len() + 1, dtype=np.int32)})


def newest_names(reviews: pl.DataFrame) -> pl.DataFrame:
    """`user_key` to `name`: that of the user's newest review that has one (in the file the last, if times tie)."""
    named = reviews.filter(pl.col("user_name").is_not_null()).sort("timestamp", "source", "line", "position")
    return named.group_by("user_key").agg(name=pl.col("user_name").last())
