"""Benchmarks ranking at T5-small size with random weights, in users per CPU-second, against the reference beam search.

Reads T5's tokenizer.json; prints one JSON object.
Trade-off: synthetic users with the history lengths of the published measurement (5,000 users, 3,000 items, mean length
9.2, 3 % long histories). Weights do not affect speed, because a constrained search takes as many steps as identifiers
have tokens. The unit is CPU-seconds of all threads, because the machine may be shared; a fixed float32 matrix product
is timed before and after. On a GPU the unit is wall seconds.

    .venv/bin/python -m benchmarks.decoding --tokenizer FOLDER [--users 128] [--threads 1] [--tokens-per-batch 4096]
    .venv/bin/python -m benchmarks.decoding --tokenizer FOLDER --device cuda --dtype bfloat16 --users 19412 \
        --items 11924 --batch-size 1024 --tokens-per-batch 65536 --prompts A-9
"""

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from benchmarks.training import NUM_ITEMS, PHOTO, WIDTH, measure_product, small_vip5
from features.prompts.rendering import COMMA, item_with_photo, render_source
from features.prompts.templates import load_templates
from features.runtime.seeds import rng
from features.schema import prompts
from features.store.tables import from_rows
from modeling.config.evaluate import Params
from modeling.data.prompt_dataset import PhotoTable, PromptDataset
from modeling.data.ragged import Ragged
from modeling.data.tokenizer import VIP5Tokenizer
from modeling.data.user_histories import UserHistories
from modeling.decoding.catalogue import Catalogue
from modeling.decoding.prefix_tree import build_tree
from modeling.evaluation.rank_prompts import Rankings, rank_prompt
from modeling.kernels.fused_modules import use_fused_modules
from modeling.models.vip5 import VIP5
from modeling.runtime.malloc import tune_malloc

# The reference implementation on a similar machine (torch 2.13, two threads): users per CPU-second, including loading,
# its greedy pass and 20 beams. A float32 matrix product reached about 75 GFLOP per CPU-second there.
ORIGINAL, ORIGINAL_GFLOP = {"A-9": 0.6214, "B-8": 0.1417}, 75.0


def made_histories(num_users: int, num_items: int = NUM_ITEMS) -> UserHistories:
    """Random histories of at least 5 items with a geometric tail, 3 % with 20 to 100; the last is the test item."""
    generator = rng(0, "benchmark", "histories")
    lengths = 4 + generator.geometric(0.3, num_users)
    long = generator.random(num_users) < 0.03
    lengths[long] = generator.integers(20, 101, int(long.sum()))
    rows = [generator.choice(num_items, int(length), replace=False) + 1 for length in lengths]
    known = Ragged.from_rows([[], *(row[:-1].tolist() for row in rows)])
    return UserHistories(known=known, train=known, targets=np.array([0, *(int(row[-1]) for row in rows)]))


def made_corpus(
    histories: UserHistories,
    tokens: VIP5Tokenizer,
    *,
    num_items: int = NUM_ITEMS,
    prompt_ids: Sequence[str] = ("A-9", "B-8"),
) -> PromptDataset:
    """Prompts of every user, as written by the stage `prompts`."""
    generator = rng(0, "benchmark", "candidates")
    templates = {prompt.id: prompt for prompt in load_templates()}
    rows: list[dict[str, Any]] = []
    for prompt_id in prompt_ids:
        family = "sequential" if prompt_id.startswith("A") else "direct"
        for user in range(1, histories.num_users + 1):
            target, shown = int(histories.targets[user]), histories.known.row(user).tolist()
            listed = None
            if family == "direct":
                free = np.setdiff1d(np.arange(1, num_items + 1), [target, *shown])
                listed = generator.permutation([target, *generator.choice(free, 99, replace=False)]).tolist()
            text = COMMA.join(item_with_photo(str(item), PHOTO) for item in listed or shown)
            slots = {"user_id": str(user), "user_name": f"Ann {user}", "history": text, "candidates": text}
            rows.append({
                "example_id": len(rows), "split": "test", "family": family, "prompt_id": prompt_id,
                "variant": "published", "round": 0, "user_id": user, "target_item_id": target,
                "image_item_ids": listed or shown, "candidate_item_ids": listed,
                "source": render_source(templates[prompt_id], slots), "target": str(target),
            })  # fmt: skip
    features = rng(0, "benchmark", "photos").standard_normal((num_items + 1, WIDTH)).astype(np.float32)
    table: pa.Table = from_rows(prompts("test", "sequential"), rows)
    return PromptDataset(table, tokens, PhotoTable(features, np.ones(num_items + 1, bool)))


def made_catalogue(tokens: VIP5Tokenizer, num_items: int = NUM_ITEMS) -> Catalogue:
    """A catalogue with items written as numbers."""
    texts = [str(item) for item in range(1, num_items + 1)]
    tree = build_tree([ids[:-1].tolist() for ids in tokens.encode_targets(texts, 64)], eos_id=tokens.eos_id)
    return Catalogue(texts=texts, tree=tree, item_of={text: item for item, text in enumerate(texts, start=1)})


def measure(
    model: VIP5,
    corpus: PromptDataset,
    *,
    prompt_id: str,
    catalogue: Catalogue,
    histories: UserHistories,
    params: Params,
) -> dict[str, Any]:
    """Users per CPU-second of one prompt, including loading, with the ratio to the reference implementation."""
    rows = np.flatnonzero(np.array(corpus.prompt_ids.to_pylist()) == prompt_id)

    def rank(chosen: np.ndarray[Any, Any]) -> Rankings:
        return rank_prompt(
            model, corpus, chosen, catalogue=catalogue, histories=histories, params=params, label=prompt_id
        )

    on_gpu = next(model.parameters()).device.type == "cuda"
    rank(rows[-2 * params.batch_size :] if on_gpu else rows[:2])
    before = measure_product()
    cpu, wall = time.process_time(), time.monotonic()
    rankings = rank(rows)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    products = [before, measure_product()]
    assert (rankings.ranks > 0).all() or prompt_id == "A-9"
    rate = len(rows) / cpu
    return {
        "users": len(rows),
        "source_tokens_a_user": round(float(corpus.lengths[rows].mean()), 1),
        "users_per_cpu_second": round(rate, 3),
        "users_per_wall_second": round(len(rows) / wall, 3),
        "wall_seconds": round(wall, 2),
        "product_gflop_per_cpu_second": products,
        "times_the_original": round(rate / ORIGINAL[prompt_id], 2),
        "times_the_original_scaled_by_the_product": round(
            rate / ORIGINAL[prompt_id] * ORIGINAL_GFLOP / float(np.mean(products)), 2
        ),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the measurements."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--tokenizer", type=Path, required=True, help="folder with T5's tokenizer.json")
    parser.add_argument("--users", type=int, default=128)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--tokens-per-batch", type=int, default=4096)
    parser.add_argument("--items", type=int, default=NUM_ITEMS)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--prompts", nargs="+", default=["A-9", "B-8"])
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    tune_malloc()
    tokens = VIP5Tokenizer.load(arguments.tokenizer)
    histories, catalogue = made_histories(arguments.users, arguments.items), made_catalogue(tokens, arguments.items)
    corpus = made_corpus(histories, tokens, num_items=arguments.items, prompt_ids=arguments.prompts)
    model = small_vip5(tokens, 0.0).eval().to(arguments.device)
    use_fused_modules(model.t5)
    params = Params(
        beam=20, top_k=20, batch_size=arguments.batch_size,
        tokens_per_batch=arguments.tokens_per_batch, dtype=arguments.dtype,
    )  # fmt: skip
    results = {
        "threads": arguments.threads,
        "device": torch.cuda.get_device_name() if arguments.device.startswith("cuda") else "cpu",
        "dtype": arguments.dtype,
        "identifier_tokens": catalogue.tree.depth,
        **{
            name: measure(model, corpus, prompt_id=name, catalogue=catalogue, histories=histories, params=params)
            for name in arguments.prompts
        },
    }
    print(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
