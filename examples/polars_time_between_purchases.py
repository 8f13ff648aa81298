"""How long do users wait between two purchases? Polars, lazily: the whole table is never in memory.

.venv/bin/python examples/polars_time_between_purchases.py [DATASET]
"""

import sys

import polars as pl

DATASET = sys.argv[1] if len(sys.argv) > 1 else "sample"
DAY = 24 * 60 * 60  # timestamps are Unix seconds

# `position` is the index in the user's time order, so the previous row of the same user is the previous purchase.
gaps = (
    pl.scan_parquet(f"data/{DATASET}/sequences/interactions/*.parquet")
    .sort("user_id", "position")
    .with_columns(days=pl.col("timestamp").diff().over("user_id") / DAY)
    .drop_nulls("days")
)
waits = (
    gaps.group_by("user_id")
    .agg(waits=pl.len(), median_days=pl.col("days").median(), longest_days=pl.col("days").max())
    .sort("median_days", "user_id")
    .collect()
)
result = waits.select(
    users=pl.len(),
    median_days=pl.col("median_days").median(),
    quickest_tenth=pl.col("median_days").quantile(0.1),
    slowest_tenth=pl.col("median_days").quantile(0.9),
    same_day_users=(pl.col("median_days") == 0).sum(),
)

if __name__ == "__main__":
    print(result)
