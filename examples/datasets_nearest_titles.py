"""Which titles mean nearly the same to the text encoder? Hugging Face `datasets` with NumPy vectors.

.venv/bin/python examples/datasets_nearest_titles.py [DATASET]
"""

import os
import sys
import tempfile

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before the import: the files lie here

import numpy as np
from datasets import Dataset, disable_progress_bars

DATASET = sys.argv[1] if len(sys.argv) > 1 else "sample"


def table(name: str, cache: str) -> Dataset:
    """Loads a whole table into memory; the on-disk cache of `datasets` is `cache`."""
    return Dataset.from_parquet(f"data/{DATASET}/{name}/*.parquet", cache_dir=cache, keep_in_memory=True)


disable_progress_bars()
with tempfile.TemporaryDirectory() as cache:
    items, texts = table("sequences/items", cache), table("texts", cache).with_format("numpy")
    names = dict(zip(items[:]["item_id"], items[:]["title"], strict=True))
    rows = texts[:]
item_ids, vectors = rows["item_id"], rows["embedding"].astype(np.float32)  # stored as float16
item_ids, vectors = item_ids[vectors.any(axis=1)], vectors[vectors.any(axis=1)]  # zeros: the item has no title
vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
cosines = vectors @ vectors.T
np.fill_diagonal(cosines, -1)
nearest = cosines.argmax(axis=1)
result = [
    (names[item], names[item_ids[near]], round(float(cosines[place, near]), 3))
    for place, (item, near) in enumerate(zip(item_ids, nearest, strict=True))
]

if __name__ == "__main__":
    for title, other, cosine in sorted(result, key=lambda row: -row[2])[:20]:
        print(f"{cosine:.3f}  {title}  ~  {other}")
