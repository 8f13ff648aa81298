"""Writes the tables of a dataset as CSV: UTF-8, a header, quotes where they are needed.

`interactions.csv` is read back by the format `ratings`, which rejects empty ratings: columns without a value are left
out. Where a dump has no times, the position stands as timestamp, so that the order of each user is kept.
"""

from pathlib import Path

import polars as pl

from flows.exporting.prepared_tables import Prepared

_PATH_SEPARATOR = "|"


def write(tables: Prepared, folder: Path) -> list[str]:
    """Writes `interactions.csv`, `items.csv` and `users.csv` into `folder`; returns a line for each."""
    interactions = tables.interactions.with_columns(tables.order).select(
        "user_id", "item_id", "rating", "timestamp", "split"
    )
    items = tables.items.with_columns(pl.col("categories").list.join(_PATH_SEPARATOR))
    lines = []
    for name, frame in (("interactions", interactions), ("items", items), ("users", tables.users)):
        filled = [column.name for column in frame if column.null_count() < frame.height]
        frame.select(filled).write_csv(folder / f"{name}.csv")
        lines.append(f"{name}.csv: {frame.height:,} rows")
    return lines
