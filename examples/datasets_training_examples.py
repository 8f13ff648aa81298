"""Hand the prompts to another trainer: Hugging Face `datasets`, streamed, without copies or downloads.

.venv/bin/python examples/datasets_training_examples.py [DATASET]
"""

import os
import sys
import tempfile
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before the import: the files lie here

from datasets import IterableDataset

DATASET = sys.argv[1] if len(sys.argv) > 1 else "sample"

# A-3 asks for the next item. A sequence-to-sequence trainer needs two texts per row, so only these are read.
# Streaming reads the Parquet parts in place; without cache_dir, a lock file is created in the home folder.
parts = sorted(Path(f"data/{DATASET}/prompts/train/sequential").glob("*.parquet"))
with tempfile.TemporaryDirectory() as cache:
    pairs = IterableDataset.from_parquet(
        [str(part) for part in parts],
        columns=["source", "target"],
        filters=[("prompt_id", "==", "A-3")],
        cache_dir=cache,
    )
    batches = pairs.shuffle(seed=2022, buffer_size=1_000).batch(batch_size=8)
    result = next(iter(batches))

if __name__ == "__main__":
    for source, target in zip(result["source"], result["target"], strict=True):
        print(f"{source}\n  -> {target}")
