"""What do buyers praise and complain about? Sentences by aspect word and stars, in pandas.

.venv/bin/python examples/pandas_praised_features.py [DATASET]
"""

import sys

import pandas as pd

DATASET = sys.argv[1] if len(sys.argv) > 1 else "sample"

explanations = pd.read_parquet(f"data/{DATASET}/explanations", columns=["feature", "rating", "sentence"])
counts = explanations.pivot_table(index="feature", columns="rating", aggfunc="size", fill_value=0)
means = explanations.groupby("feature")["rating"].agg(mean_stars="mean", sentences="size")
# The sentence with the lowest rating represents the complaint.
worst = explanations.sort_values(["rating", "sentence"]).groupby("feature")["sentence"].first()
result = means.join(counts).join(worst.rename("complaint")).sort_values("sentences", ascending=False, kind="stable")

if __name__ == "__main__":
    print(result.head(20).to_string())
