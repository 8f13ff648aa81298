"""The commonest values of each text column, so that junk which no cleaning rule knows is seen.

Reads `records/reviews` and `records/items`. Returns plain values for the template.
Trade-off: texts are counted by 64-bit hashes, in as many passes as keep the hashes of one pass in memory; only the
texts shown are read back.
"""

from typing import Any

import polars as pl

from pipelines.reporting.distributions import percent

_ROWS_PER_PASS = 50_000_000  # some 2 GB of hashes and counts
_MOST = 10
_SHOWN_LETTERS = 160


def collect(reviews: pl.LazyFrame, items: pl.LazyFrame) -> list[dict[str, Any]]:
    """The commonest titles, brands and categories of `items`, headlines and texts of `reviews`.

    Returns:
        For each column `name`, `filled` (rows with a text) and `rows`, the result of `commonest`.
    """
    described = items.with_columns(category=pl.col("categories").list.last())
    columns = [("title", described), ("brand", described), ("category", described)]
    columns += [("headline", reviews), ("text", reviews)]
    return [{"name": name, **commonest(rows.select(text=name).drop_nulls())} for name, rows in columns]


def commonest(rows: pl.LazyFrame, *, most: int = _MOST, rows_per_pass: int = _ROWS_PER_PASS) -> dict[str, Any]:
    """The `most` commonest texts that occur at least twice, with their number and share of rows, in percent.

    Args:
        rows: `text`, without nulls.
        most: Maximum number of texts.
        rows_per_pass: Rows whose hashes one pass holds, about.

    Example:
        "a", "b", "a" -> {"filled": 3, "rows": [{"text": "a", "count": 2, "share": 66.7}]}
    """
    filled = int(rows.select(pl.len()).collect().item())
    passes = max(-(-filled // rows_per_pass), 1)
    hashed = rows.with_columns(hash=pl.col("text").hash(seed=1))
    counted = [
        hashed.filter(pl.col("hash") % passes == number)
        .group_by("hash")
        .agg(count=pl.len())
        .filter(pl.col("count") > 1)
        .top_k(most, by=["count", "hash"])
        .collect(engine="streaming")
        for number in range(passes)
    ]
    best = pl.concat(counted).top_k(most, by=["count", "hash"])
    texts = (
        hashed.join(best.lazy(), on="hash", how="inner")
        .group_by("hash")
        .agg(pl.col("text").min(), pl.col("count").max())
    )
    shown = texts.collect(engine="streaming").sort(["count", "text"], descending=[True, False])
    return {
        "filled": filled,
        "rows": [
            {"text": _short(row["text"]), "count": row["count"], "share": percent(row["count"], filled)}
            for row in shown.iter_rows(named=True)
        ],
    }


def _short(text: str) -> str:
    return text if len(text) <= _SHOWN_LETTERS else f"{text[: _SHOWN_LETTERS - 3]}..."
