"""What does the model read and what must it write? The prompts of one family, with their length, in Polars.

.venv/bin/python examples/polars_prompts_of_one_family.py [DATASET [FAMILY]]; FAMILY: sequential, direct or explanation.
"""

import sys

import polars as pl

DATASET, FAMILY = [*sys.argv[1:], *["sample", "sequential"][len(sys.argv) - 1 :]][:2]

prompts = pl.scan_parquet(f"data/{DATASET}/prompts/train/{FAMILY}/*.parquet")
result = (
    prompts.group_by("prompt_id", "variant")
    .agg(
        examples=pl.len(),
        mean_words=pl.col("source").str.split(" ").list.len().mean().round(1),
        photos=pl.col("image_item_ids").list.len().mean().round(1),
        source=pl.col("source").sort_by("example_id").first(),
        target=pl.col("target").sort_by("example_id").first(),
    )
    .sort("prompt_id", "variant")
    .collect()
)

if __name__ == "__main__":
    with pl.Config(tbl_rows=-1, fmt_str_lengths=200, tbl_width_chars=200):
        print(result)
