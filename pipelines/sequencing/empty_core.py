"""Explains why no sequence is left, and finds the parameters with which some are.

Reads `records/reviews` without texts, only after a run found nothing. Returns the error for the user.
Trade-off: all keys are held in memory, 16 bytes an interaction after they are read.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from features.errors import TableError
from pipelines.sequencing import transforms
from pipelines.sequencing.config import LEAST_INTERACTIONS, Params


def explained(parts: Sequence[Path], params: Params) -> TableError:
    """The error of a run without sequences; its action gives the largest `k_core` that leaves some.

    Args:
        parts: Parts of `records/reviews`.
        params: Parameters with which no sequence is left.

    Example:
        60 users with 4 reviews each, k_core 5 -> "set sequences.k_core to 4 (60 users, 40 items)"
    """
    frame = _interactions(parts)
    once = transforms.deduped(frame, params.duplicate_reviews)
    merged = frame.height - once.height
    left = f", {once.height} of them left after {merged} repeats of a user and item were merged" if merged else ""
    found = f"0 of {frame.height} reviews in the {params.k_core}-core{left}"
    expected = "users and items with enough reviews"
    if (k := _largest_k(once, params.k_core - 1)) is not None:
        return TableError(found, expected, f"set sequences.k_core to {k} ({_size(once, k)})")
    again = transforms.deduped(frame, "all")
    if (k := _largest_k(again, params.k_core)) is not None:
        lower = f" and sequences.k_core to {k}" if k < params.k_core else ""
        return TableError(found, expected, f"set sequences.duplicate_reviews to all{lower} ({_size(again, k)})")
    most = max(once.group_by("user").len()["len"], default=0)
    return TableError(
        f"{found}; the most active user has reviews of {most} item{'s' * (most != 1)}",
        f"users with {LEAST_INTERACTIONS} interactions, one each for train, valid and test",
        "use a larger dump, such as the reviews of all users instead of a sample of lines: no sequences.k_core helps",
    )


def _interactions(parts: Sequence[Path]) -> pl.DataFrame:
    """Interactions with the ranks of the keys in place of their hashes."""
    columns = ["user_key", "item_key", "timestamp", "position"]
    frame = pl.scan_parquet(list(parts)).select(columns).collect()
    ranks = {side: pl.col(f"{side}_key").rank("dense").cast(pl.UInt32) for side in ("user", "item")}
    return frame.select(**ranks, timestamp="timestamp", position="position").with_row_index("row")


def _largest_k(frame: pl.DataFrame, most: int) -> int | None:
    """The largest k from 1 to `most` with which a user can be split; None if there is none."""
    low, high = 0, max(most, 0)
    while low < high:  # a core contains those of all larger k
        middle = (low + high + 1) // 2
        low, high = (middle, high) if transforms.splittable_core(frame, middle).height else (low, middle - 1)
    return low or None


def _size(frame: pl.DataFrame, k: int) -> str:
    core = transforms.splittable_core(frame, k)
    return f"{core['user'].n_unique()} users, {core['item'].n_unique()} items"
