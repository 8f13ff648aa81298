"""Compares the order of published sequences with the times that the same dump states.

Reads the staged parts of `records/reviews` of a format whose files state an order. Returns a note and logs a warning:
the order of the file is kept, because it is what published results refer to, but nothing should take it for time.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

log = logging.getLogger("vip5")


def compare(parts: Sequence[Path], times: Mapping[tuple[str, str], int | None]) -> dict[str, Any]:
    """Users whose purchases with a known time are in another order than these times.

    Args:
        parts: Parts of `records/reviews`, with `position` from 1.
        times: Unix seconds by user key and item key, for rows without a time of their own.

    Returns:
        `users` with two known times or more, `contradicting` ones among them, and one `example`; empty if no time is
        known.

    Example:
        U1 bought A on 2014-05-02, then B on 2014-05-01 -> {"users": 1, "contradicting": 1, "example": "user U1: ..."}
    """
    pairs = [(*pair, time) for pair, time in times.items() if time is not None]
    stated = pl.DataFrame(pairs, schema={"user_key": pl.String, "item_key": pl.String, "time": pl.Int64}, orient="row")
    rows = pl.scan_parquet(list(parts)).select("user_key", "item_key", "position", "timestamp")
    known = (
        rows.join(stated.lazy(), on=["user_key", "item_key"], how="left")
        .with_columns(time=pl.coalesce("timestamp", "time"))
        .filter(pl.col("time").is_not_null() & (pl.len().over("user_key", "item_key") == 1))  # a repeat has one time
        .sort("user_key", "position")
        .with_columns(
            before=pl.col("time").shift(1).over("user_key"), earlier=pl.col("item_key").shift(1).over("user_key")
        )
        .drop_nulls("before")
        .collect()
    )
    if not known.height:
        return {}
    wrong = known.filter(pl.col("time") < pl.col("before"))
    note = {"users": known["user_key"].n_unique(), "contradicting": wrong["user_key"].n_unique()}
    if not wrong.height:
        return note
    day = pl.from_epoch(pl.col("time", "before"), time_unit="s").dt.date().cast(pl.String)
    first = wrong.head(1).with_columns(day).row(0, named=True)
    later, sooner = (f"{first[item]} of {first[time]}" for item, time in (("item_key", "time"), ("earlier", "before")))
    example = f"user {first['user_key']}: {later} after {sooner}"
    log.warning(
        "records: the order of %s of %s users contradicts the times of their reviews, such as %s; it is kept",
        f"{note['contradicting']:,}", f"{note['users']:,}", example,
    )  # fmt: skip
    return note | {"example": example}
