"""Pure Polars functions from interactions to numbered, split histories.

Each takes the interactions of some users, all of each user, and returns a frame. All steps but the k-core need only the
rows of one user, so buckets of users are processed independently, here or on Beam workers; the k-core and the item
numbers need global counts.

A frame of interactions has the columns `user` and `item` (hashes of the keys), `rating`, `timestamp`, `position` (0
unless the dump states an order) and `row` (position in the dump). An ordered frame has `position` (from 1) and `num`.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import polars as pl

from features.runtime.seeds import mix64, rng
from pipelines.sequencing.config import LEAST_INTERACTIONS

TieBreak = Literal["hash", "file"]
DuplicateReviews = Literal["first", "last", "all"]
Numbering = Literal["random", "train_first", "p5"]
Side = Literal["user", "item"]
ReadPairs = Callable[[int], tuple[np.ndarray, np.ndarray]]
TIME_ORDER = ("timestamp", "position", "tie")
HELD_OUT = 2  # last interactions of a user: one for valid, one for test


def add_tie_break(frame: pl.DataFrame, tie_break: TieBreak) -> pl.DataFrame:
    """Adds the column `tie`, which orders a user's interactions in the same second.

    "hash" mixes the seeded hashes of user and item, so the order is independent of the item and the file; "file" is the
    position in the dump, which in the Amazon dumps follows the item keys.
    """
    if tie_break == "file":
        return frame.with_columns(tie=pl.col("row").cast(pl.UInt64))
    mixed = mix64(frame["user"].to_numpy() ^ mix64(frame["item"].to_numpy()))
    return frame.with_columns(tie=pl.Series(mixed, dtype=pl.UInt64))


def deduped(frame: pl.DataFrame, duplicate_reviews: DuplicateReviews) -> pl.DataFrame:
    """Removes exact duplicates (same user, item and time; the first in the file stays), then applies the rule.

    Example:
        Times 3, 3, 7 of one user and item: "first" keeps one row (3), "last" one (7), "all" two (3, 7).
    """
    once = frame.sort("row").unique(["user", "item", "timestamp", "position"], keep="first", maintain_order=True)
    if duplicate_reviews == "all":
        return once
    by_time = once.sort("timestamp", "position", "row")
    return by_time.unique(["user", "item"], keep=duplicate_reviews, maintain_order=True).sort("row")


def frequent(frame: pl.DataFrame, side: Side, k: int) -> pl.DataFrame:
    """The rows of users (or items) with at least `k` rows; `frame` must contain all rows of each user (or item)."""
    return frame if k <= 1 else frame.filter(pl.len().over(side) >= k)


def core_masks(read: ReadPairs, num_buckets: int, num_items: int, k: int) -> list[np.ndarray]:
    """Boolean masks (N,) per bucket of the largest set in which every user and item has at least `k` interactions.

    Interactions are dropped in rounds until a round drops none; the result does not depend on their order. All
    interactions of a user are in one bucket, so only item counts are shared: memory is one number per item and one byte
    per interaction, independent of the number of buckets.

    Args:
        read: Returns the users (indices from 0 within the bucket) and items (global indices from 0) of a bucket.
        num_buckets: Number of buckets.
        num_items: Number of item indices.
        k: Minimum number of interactions of each user and item.
    """
    masks = []
    counts = np.zeros(num_items, np.int64)
    for bucket in range(num_buckets):
        users, items = read(bucket)
        masks.append(np.ones(len(users), bool))
        counts += np.bincount(items, minlength=num_items)
    while True:
        kept, dropped = np.zeros(num_items, np.int64), 0
        for bucket, mask in enumerate(masks):
            users, items = read(bucket)
            num_users = int(users.max()) + 1 if len(users) else 0
            left = mask & (counts >= k)[items]
            left &= (np.bincount(users[left], minlength=num_users) >= k)[users]
            dropped += int(mask.sum() - left.sum())
            kept += np.bincount(items[left], minlength=num_items)
            masks[bucket] = left
        counts = kept
        if not dropped:
            return masks


def k_core(frame: pl.DataFrame, k: int) -> pl.DataFrame:
    """The largest subset of `frame` in which every user and every item has at least `k` rows, in the given order."""
    places = [frame[side].rank("dense").cast(pl.Int64).to_numpy() - 1 for side in ("user", "item")]
    (mask,) = core_masks(lambda _: (places[0], places[1]), 1, int(places[1].max(initial=-1)) + 1, k)
    return frame.filter(pl.Series(mask, dtype=pl.Boolean))


def splittable_core(frame: pl.DataFrame, k: int) -> pl.DataFrame:
    """The k-core without users that cannot be split."""
    return frequent(k_core(frame, k), "user", LEAST_INTERACTIONS)


def ordered(frame: pl.DataFrame, most: int | None, least: int) -> pl.DataFrame:
    """Sorts by user and time and adds `position` (from 1) and `num` (rows of the user); keeps the newest `most` rows.

    Users with fewer than `least` rows are dropped because they cannot be split.
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
    """Leave-one-out split: a user's last row is test, the second to last valid, the rest train.

    Example:
        Positions 1, 2, 3, 4 become train, train, valid, test.
    """
    from_end = pl.col("num") - pl.col("position")
    split = pl.when(from_end == 0).then(pl.lit("test")).when(from_end == 1).then(pl.lit("valid"))
    return frame.with_columns(split=split.otherwise(pl.lit("train")))


def user_counts(frame: pl.DataFrame) -> pl.DataFrame:
    """`user`, `num` and `first_row` (row of the first interaction in the dump) of an ordered frame."""
    return frame.group_by("user").agg(pl.col("num").first(), first_row=pl.col("row").min())


def item_counts(frame: pl.DataFrame) -> pl.DataFrame:
    """`item`, `num_interactions` and `num_train` of an ordered frame; counts of several frames add up."""
    is_train = pl.col("num") - pl.col("position") >= HELD_OUT
    return frame.group_by("item").agg(num_interactions=pl.len().cast(pl.Int32), num_train=is_train.sum().cast(pl.Int32))


def first_seen(frame: pl.DataFrame, numbering: Numbering) -> pl.DataFrame:
    """`item` and `seen`, its first position when users are traversed by `user_id`.

    "train_first" considers the train split only. For several frames, take the minimum.
    """
    walked = frame.lazy()
    if numbering == "train_first":
        walked = walked.filter(pl.col("num") - pl.col("position") >= HELD_OUT)
    visit = pl.col("user_id").cast(pl.Int64) * 2**31 + pl.col("position")
    return walked.group_by("item").agg(seen=visit.min()).collect()


def user_numbers(users: pl.DataFrame, seed: int, *, in_file_order: bool) -> pl.DataFrame:
    """Assigns `user_id` 1..U: a seeded permutation of the sorted keys, or the order of the file.

    Args:
        users: `user_key`, `first_row` and any other columns; one row per user.
        seed: The run's seed.
        in_file_order: Whether to number by first row (p5: the published numbers).
    """
    if in_file_order:
        numbered = users.sort("first_row")
    else:
        numbered = users.sort("user_key")[rng(seed, "sequences", "users").permutation(users.height)]
    return numbered.with_columns(user_id=pl.int_range(1, pl.len() + 1, dtype=pl.Int32))


def shown_numbers(num_users: int, seed: int) -> pl.Series:
    """User numbers in prompts for the users 1..U: a seeded permutation, independent of their order."""
    drawn = rng(seed, "sequences", "shown").permutation(num_users) + 1
    return pl.Series(drawn, dtype=pl.Int32)


def item_numbers(items: pl.DataFrame, numbering: Numbering, seed: int) -> pl.DataFrame:
    """Assigns `item_id` 1..I.

    "random" permutes the sorted keys. "train_first" numbers the items of the train split by first appearance over the
    users in order, then the rest in permuted order. "p5" traverses complete histories: a test item without earlier
    purchases gets the number after those of the history, so numbers leak the target.

    Args:
        items: `item_key`, `seen` (see `first_seen`; null if not seen) unless "random", and any other columns.
        numbering: The scheme.
        seed: The run's seed.
    """
    numbered = items.sort("item_key")[rng(seed, "sequences", "items").permutation(items.height)]
    if numbering != "random":
        numbered = numbered.sort("seen", nulls_last=True, maintain_order=True)
    return numbered.with_columns(item_id=pl.int_range(1, pl.len() + 1, dtype=pl.Int32))


def kept_numbers(numbered: pl.DataFrame, previous: pl.DataFrame) -> pl.DataFrame:
    """Renumbers `numbered` with the item ids of `previous`; new items follow in their order.

    Args:
        numbered: Result of `item_numbers`, with `num_interactions` and `num_train`.
        previous: `item_key` and `item_id` 1..P of an earlier run. Items missing from `numbered` are added without
            interactions, so that the ids have no gaps.

    Example:
        Items B, A (1, 2) with previous A 1, C 2 become A 1, C 2 (0 interactions), B 3.
    """
    old = numbered.drop("item_id").join(previous, on="item_key", how="inner")
    new = numbered.drop("item_id").join(previous, on="item_key", how="anti", maintain_order="left")
    new = new.with_columns(item_id=pl.int_range(1, pl.len() + 1, dtype=pl.Int32) + previous.height)
    gone = previous.join(numbered, on="item_key", how="anti").with_columns(
        num_interactions=pl.lit(0, pl.Int32), num_train=pl.lit(0, pl.Int32)
    )
    return pl.concat([old, new, gone], how="diagonal").cast({"item_id": pl.Int32}).sort("item_id")


def kept_user_numbers(numbered: pl.DataFrame, previous: pl.DataFrame) -> pl.DataFrame:
    """Renumbers `numbered` with the numbers of `previous` for known users; sorted by `user_id` 1..U.

    `number`, used in prompts, never changes for a known user; new users get numbers after the last of `previous`, in
    their random order. `user_id`, a join key without gaps, is kept unless it exceeds U; new users get the free ids.

    Args:
        numbered: `user_key`, `user_id`, newly assigned `number`, and any other columns.
        previous: `user_key`, `user_id` and `number` of an earlier run.

    Example:
        Users A, B, C (1, 2, 3) with previous C 1, A 2 become C 1, A 2, B 3.
    """
    known = previous.select("user_key", kept_id="user_id", kept_number="number")
    joined = numbered.join(known, on="user_key", how="left", maintain_order="left")
    within = pl.col("kept_id").is_not_null() & (pl.col("kept_id") <= numbered.height)
    stays, moves = joined.filter(within), joined.filter(~within)
    free = np.setdiff1d(np.arange(1, numbered.height + 1, dtype=np.int32), stays["kept_id"].to_numpy())
    placed = pl.concat([stays, moves.with_columns(kept_id=pl.Series(free, dtype=pl.Int32))])
    is_new = pl.col("kept_number").is_null()
    last = int(previous["number"].max() or 0)  # type: ignore[arg-type]
    beyond = last + pl.when(is_new).then(pl.col("number")).rank("ordinal")
    number = pl.when(is_new).then(beyond).otherwise("kept_number").cast(pl.Int32)
    return placed.with_columns(user_id="kept_id", number=number).drop("kept_id", "kept_number").sort("user_id")
