"""Explains that users lack unseen items, and finds the parameters with which every user has enough.

Reads `sequences/interactions`, all users at once, only after a run found too few. Returns the error for the user.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from features.errors import TableError


def explained(parts: Sequence[Path], num_items: int, num_negatives: int, least: int) -> TableError:
    """The error of a run without enough unseen items; its action suffices for all users.

    Args:
        parts: Parts of `sequences/interactions`.
        num_items: Number of items in the catalogue.
        num_negatives: Negatives per list that were wanted.
        least: Fewest interactions of a user that can be split.

    Example:
        20 items, users with 1 to 2 of them, 19 negatives wanted -> "set candidates.num_negatives to 18 or less"
    """
    rows = pl.scan_parquet(list(parts)).select("user_id", "item_id").collect()
    per_user = _items_by_user(rows)
    user, bought = per_user.sort("bought", "user_id", descending=[True, False]).row(0)
    short = per_user.filter(num_items - pl.col("bought") < num_negatives).height
    if bought < num_items:
        action = f"set candidates.num_negatives to {num_items - bought}" + " or less" * (num_items - bought > 1)
    else:
        action = _shorter_histories(rows, least)
    return TableError(
        f"{short} of {per_user.height} users with fewer than {num_negatives} unseen items, such as user {user} with "
        f"{num_items - bought} in a catalogue of {num_items}",
        f"at least {num_negatives} for every user",
        action,
    )


def _items_by_user(rows: pl.DataFrame) -> pl.DataFrame:
    """Number of distinct items of each user: `user_id`, `bought`."""
    return rows.group_by("user_id").agg(bought=pl.col("item_id").n_unique())


def _shorter_histories(rows: pl.DataFrame, least: int) -> str:
    """The largest cut of the histories that leaves every user an unseen item, for a user who has bought everything."""
    from_end = rows.with_columns(place=pl.int_range(pl.len(), 0, -1).over("user_id"))
    longest = int(from_end["place"].max())  # type: ignore[arg-type]
    for most in range(longest - 1, least - 1, -1):
        left = from_end.filter(pl.col("place") <= most)
        unseen = left["item_id"].n_unique() - int(_items_by_user(left)["bought"].max())  # type: ignore[arg-type]
        if unseen >= 1:
            return f"set sequences.max_interactions_per_user to {most} and candidates.num_negatives to {unseen}"
    return "use a larger dump: this user has every item of the catalogue, and shorter histories make it smaller"
