"""For whom does the model work? HR@10 and NDCG@10 by length of the history, in pandas.

.venv/bin/python examples/pandas_hit_rate_by_history_length.py [DATASET [PROMPT]]
Equal to the figures of `metrics/<dataset>/evaluate.json`, because `predictions` holds the top 20 of every user.
"""

import sys

import numpy as np
import pandas as pd

DATASET, PROMPT = [*sys.argv[1:], *["sample", "A-3"][len(sys.argv) - 1 :]][:2]

interactions = pd.read_parquet(f"data/{DATASET}/sequences/interactions")
predictions = pd.read_parquet(f"data/{DATASET}/predictions")
predictions = predictions[predictions["prompt_id"] == PROMPT]

# The held-out item of each user, and the number of items before it.
held_out = interactions[interactions["split"] == "test"].rename(columns={"position": "place"})
held_out = held_out.assign(known=held_out["place"] - 1)[["user_id", "item_id", "known"]]
# Evaluated users only; a target outside the top 20 has no rank.
asked = held_out[held_out["user_id"].isin(predictions["user_id"])]
ranked = asked.merge(predictions[["user_id", "item_id", "rank"]], how="left", on=["user_id", "item_id"])
hit = ranked["rank"] <= 10
ranked = ranked.assign(hit=hit, gain=np.where(hit, 1 / np.log2(ranked["rank"] + 1), 0.0))
bins = pd.cut(ranked["known"], [0, 4, 9, np.inf], labels=["1-4", "5-9", "10+"])
result = ranked.groupby(bins, observed=True).agg(
    users=("user_id", "size"), hr_at_10=("hit", "mean"), ndcg_at_10=("gain", "mean")
)
result.loc["all"] = [len(ranked), ranked["hit"].mean(), ranked["gain"].mean()]

if __name__ == "__main__":
    print(result.round(4))
