"""Evaluates the baselines of `evaluate` on a p5 folder without VIP5: SASRec, ridge, item-kNN, BM25, popularity, random.

Reads a folder with `sequential_data.txt`, `datamaps.json` and `items.jsonl.gz`; prints tables and one JSON object. The
folder is read without the pipeline's stages and its items are renumbered by the seed, so a run takes minutes. Baselines
on title and photo embeddings are omitted, because they need an encoder.

    .venv/bin/python -m benchmarks.baselines --data FOLDER --dataset toys [--seed 2022] [--threads 1] [--without-sasrec]
"""

import argparse
import gzip
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from features.runtime.seeds import rng
from features.runtime.stage import Context, configure_logging
from modeling.baselines.run_baselines import BaselineRanks, Content, score_baselines
from modeling.config.evaluate import Params
from modeling.config.sasrec import SasRecParams
from modeling.data.prompt_dataset import PhotoTable
from modeling.data.ragged import Ragged
from modeling.data.user_histories import UserHistories, known_before_test
from modeling.evaluation.popularity_negatives import popular_candidates
from modeling.evaluation.result_tables import aligned
from modeling.metrics.ranking import ranking_block


def read_folder(folder: Path, seed: int) -> tuple[pa.Table, list[str | None]]:
    """Returns interactions like `sequences/interactions` with random item numbers, and titles by item number."""
    lines = (folder / "sequential_data.txt").read_text(encoding="ascii").splitlines()
    sequences = [[int(number) for number in line.split()][1:] for line in lines]
    num_items = max(map(max, sequences))
    number = np.concatenate([[0], rng(seed, "benchmark", "numbering").permutation(num_items) + 1])
    keys = json.loads((folder / "datamaps.json").read_bytes())["id2item"]
    with gzip.open(folder / "items.jsonl.gz", "rt", encoding="utf-8") as stream:
        by_key = {row["asin"]: row.get("title") for row in map(json.loads, stream)}
    titles: list[str | None] = [None] * num_items
    for item in range(1, num_items + 1):
        titles[number[item] - 1] = by_key.get(keys[str(item)])
    lengths = np.array([len(items) for items in sequences])
    splits = [name for length in lengths for name in ["train"] * (length - 2) + ["valid", "test"]]
    table = pa.table({
        "user_id": np.repeat(np.arange(1, len(sequences) + 1), lengths),
        "item_id": number[np.concatenate(sequences)],
        "timestamp": pa.nulls(int(lengths.sum()), pa.int64()),
        "split": splits,
    })  # fmt: skip
    return table, titles


def uniform_candidates(histories: UserHistories, num_items: int, seed: int) -> npt.NDArray[np.int64]:
    """Returns (U, 100) the test item and 99 unseen items of every user, ascending."""
    users = np.arange(1, histories.num_users + 1)
    seen = histories.known
    listed = np.zeros((len(users), 100), np.int64)
    for row, user in enumerate(users.tolist()):
        own = np.append(seen.row(user), histories.targets[user])
        drawn = rng(seed, "benchmark", "negatives", user).choice(num_items, 99 + len(own), replace=False) + 1
        listed[row] = [histories.targets[user], *np.setdiff1d(drawn, own, assume_unique=False)[:99]]
    return np.sort(listed, 1)


@dataclass(frozen=True, kw_only=True)
class Tables:
    """The inputs of the baselines."""

    interactions: pa.Table
    histories: UserHistories
    popular: Ragged
    content: Content


def measure(arguments: argparse.Namespace) -> BaselineRanks:
    """Ranks all baselines on every user of the folder."""
    interactions, titles = read_folder(arguments.data, arguments.seed)
    histories = known_before_test(interactions)
    num_items = len(titles)
    counts = np.bincount(histories.train.values, minlength=num_items + 1)[1:]
    users = np.arange(1, histories.num_users + 1)
    popular = popular_candidates(histories, users, counts, num_negatives=99, seed=arguments.seed)
    context = Context(dataset=arguments.dataset, seed=arguments.seed, shared={})
    sasrec = None if arguments.without_sasrec else replace(SasRecParams(), max_seconds=None)
    inputs = Tables(
        histories=histories,
        interactions=interactions,
        popular=Ragged.from_rows([[], *popular.tolist()]),
        content=Content(
            titles=titles,
            title_vectors=np.zeros((num_items, 1), np.float32),
            photos=PhotoTable(np.zeros((num_items + 1, 1), np.float32), np.zeros(num_items + 1, bool)),
        ),
    )
    return score_baselines(
        inputs, Params(sasrec=sasrec), context, users={"sequential": users, "direct": users},
        candidates=uniform_candidates(histories, num_items, arguments.seed),
    )  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    """Print the metrics of the baselines."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--data", type=Path, required=True, help="p5 folder of one dataset")
    parser.add_argument("--dataset", required=True, help="name of the dataset, such as toys")
    parser.add_argument("--seed", type=int, default=2022)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--without-sasrec", action="store_true")
    arguments = parser.parse_args(argv)
    configure_logging()
    logging.getLogger("vip5").setLevel(logging.INFO)
    torch.set_num_threads(arguments.threads)
    started = time.process_time()
    baselines = measure(arguments)
    metrics = {"sequential": ("hr@5", "ndcg@5", "hr@10", "ndcg@10")} | dict.fromkeys(
        ("direct", "direct_popular"), ("hr@1", "hr@5", "hr@10")
    )
    for task, names in metrics.items():
        blocks = {name: ranking_block(own, resamples=1000, seed=1) for name, own in baselines.ranks[task].items()}
        rows = [
            [name, *(f"{block[m]:.4f} [{block['ci95'][m][0]:.4f}, {block['ci95'][m][1]:.4f}]" for m in names)]
            for name, block in sorted(blocks.items(), key=lambda pair: -pair[1]["hr@10"])
        ]
        print("\n".join(aligned([[task, *names], *rows])), end="\n\n")
    print(json.dumps({"notes": baselines.notes, "cpu_seconds": round(time.process_time() - started, 1)}, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
