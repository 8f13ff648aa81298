"""Distributions of the data page as bars and curves: lengths, popularity and time.

Reads lazy frames of finished tables. Returns plain values for the template, at most a hundred points each.
Counts are exact, one pass each; only the popularity curve sorts, and it sorts items.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

Bars = list[dict[str, Any]]
PER_USER = (1, 2, 3, 4, 5, 6, 7, 8, 10, 13, 17, 25, 50, 100, 200)
GAPS = (
    ("the same day", 0), ("1 day", 1), ("2 to 6 days", 2), ("1 to 4 weeks", 7), ("1 to 3 months", 30),
    ("3 to 12 months", 91), ("1 to 2 years", 365), ("2 years or more", 730),
)  # fmt: skip
"""Name and minimum number of whole days of each bin of the time between two interactions of a user."""
_DAY = 24 * 60 * 60
_POINTS = 50  # of a curve


def histogram(counts: pl.LazyFrame, column: str, edges: Sequence[int]) -> Bars:
    """Number of values in each bin [edge, next edge), from the first to the last non-empty bin.

    Example:
        Values 5, 5, 9 with edges (5, 6, 8, 10) give bars "5": 2, "6-7": 0, "8-9": 1.
    """
    values = counts.select(pl.col(column).cast(pl.Int64)).group_by(column).len("times").collect()
    tallied: dict[int, int] = {}
    for value, times in values.iter_rows():
        edge = max((edge for edge in edges if edge <= value), default=edges[0])
        tallied[edge] = tallied.get(edge, 0) + times
    if not tallied:
        return []
    bins = []
    for edge, following in zip(edges, (*edges[1:], None), strict=True):
        if min(tallied) <= edge <= max(tallied):
            single = following is not None and following - edge == 1
            name = str(edge) if single else f"{edge}+" if following is None else f"{edge}-{following - 1}"
            bins.append((name, tallied.get(edge, 0)))
    return shares(bins)


def bars(counts: pl.LazyFrame, name: str, *, most: int = 30, by_size: bool = True) -> Bars:
    """The rows (name, len) as bars, by size or by name."""
    order = ["len", name] if by_size else [name]
    rows = counts.sort(order, descending=[True, False] if by_size else [False]).head(most).collect()
    named = ((row[name], int(row["len"])) for row in rows.iter_rows(named=True))
    return shares([(f"{value:g}" if isinstance(value, float) else str(value), count) for value, count in named])


def shares(counts: Sequence[tuple[str, int]], notes: Sequence[str] | None = None) -> Bars:
    """Bars with widths relative to the largest."""
    widest = max((count for _, count in counts), default=0)
    return [
        {"name": name, "count": count, "width": percent(count, widest), "note": note}
        for (name, count), note in zip(counts, notes or [""] * len(counts), strict=True)
    ]


def percent(count: int, whole: int) -> float:
    """`count` of `whole` in percent, with one decimal."""
    return round(100 * count / whole, 1) if whole else 0.0


def gaps(interactions: pl.LazyFrame) -> Bars:
    """Time between consecutive interactions of a user in whole days, binned by `GAPS`.

    Args:
        interactions: Sorted by user and position, as the table is; rows without a timestamp are skipped.
    """
    user, time = pl.col("user_id"), pl.col("timestamp")
    days = (
        interactions.select(user, time)
        .filter(time.is_not_null())
        .select(same=user == user.shift(1), days=(time - time.shift(1)) // _DAY)
        .filter(pl.col("same"))
    )
    counted = days.group_by("days").len("times").collect()
    tallied = [0] * len(GAPS)
    for value, times in counted.iter_rows():
        tallied[max(place for place, (_, least) in enumerate(GAPS) if least <= max(value, 0))] += times
    return shares(list(zip((name for name, _ in GAPS), tallied, strict=True))) if sum(tallied) else []


def months(interactions: pl.LazyFrame) -> Bars:
    """Interactions per month from the first to the last, including empty months; no bars without timestamps."""
    when = pl.from_epoch(pl.col("timestamp"), time_unit="s").dt.truncate("1mo").dt.date().alias("month")
    counted = interactions.drop_nulls("timestamp").select(when).group_by("month").len().sort("month").collect()
    if not counted.height:
        return []
    span = pl.date_range(counted["month"][0], counted["month"][-1], "1mo", eager=True).alias("month")
    filled = pl.DataFrame(span).join(counted, on="month", how="left").fill_null(0)
    return shares([(f"{month:%Y-%m}", int(count)) for month, count in filled.iter_rows()])


def concentration(per_item: pl.LazyFrame) -> dict[str, Any]:
    """Concentration of interactions on items.

    Args:
        per_item: One row per item with its number of interactions, `len`.

    Returns:
        `points`: (percent of the items, percent of the interactions), most popular items first; `top`: percent of the
        interactions on the first 1, 10 and 50 % of the items; `gini` in [0, 1].

    Example:
        Items with 8, 1 and 1 interactions: the first third of the items holds 80 %.
    """
    counts = per_item.select(pl.col("len").sort(descending=True)).collect()["len"].to_numpy().astype(np.float64)
    if not len(counts):
        return {"points": [], "top": [], "gini": 0.0}
    held = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
    items = np.linspace(0, 1, len(held))
    at = np.linspace(0, 1, _POINTS + 1)
    curve = np.interp(at, items, held)
    top = [(share, round(100 * float(np.interp(share / 100, items, held)), 1)) for share in (1, 10, 50)]
    area = float(np.trapezoid(held, dx=1 / len(counts)))
    return {
        "points": [(round(100 * x, 1), round(100 * y, 1)) for x, y in zip(at.tolist(), curve.tolist(), strict=True)],
        "top": top,
        "gini": round(2 * area - 1, 3),
    }
