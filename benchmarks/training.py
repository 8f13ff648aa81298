"""Benchmarks data loading and training steps at T5-small size on a synthetic mix like the published one.

Reads nothing, or a folder with T5's tokenizer.json; prints one JSON object.
Trade-off: the first few optimizer steps of the training loop represent the epoch. The unit is CPU-seconds of all
threads, because the machine may be shared; a fixed float32 matrix product is timed as reference. On a GPU the unit is
wall seconds, with a large bfloat16 product as reference, and the model's operations are counted as products of its
weights (2 per weight and token forward, and again for the gradients of inputs and of trained weights).

The mix (one epoch of the original on 5,000 users): 41 % next-item and yes/no prompts with histories of about 4 items,
23 % yes/no prompts of one item, 17 % prompts with 100 candidates, 19 % explanations; 2 visual tokens per photo, image
features of width 512, items written as numbers; about 140 source tokens per example.

    .venv/bin/python -m benchmarks.training [--tokenizer FOLDER] [--steps 6] [--threads 1] [--kernels reference]
    .venv/bin/python -m benchmarks.training --device cuda --dtype bfloat16 --batching length_bucketed --batch-size 512 \
        --examples 94200 --epochs 5 --steps 0 --tokens-per-batch 65536
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from torch.utils.data import DataLoader

from benchmarks.arithmetic import product_rate
from features.runtime.seeds import rng
from features.schema import prompts
from features.store.tables import from_rows
from modeling.config.model import AdapterParams, Scratch, VisionParams
from modeling.config.training import (
    Batching,
    Checkpoint,
    Compute,
    LoopParams,
    Objective,
    Optimizer,
    Schedule,
    Validation,
)
from modeling.data.length_batching import StepSampler, padding_share
from modeling.data.prompt_dataset import PhotoTable, PromptDataset
from modeling.data.tokenizer import VIP5Tokenizer
from modeling.data.train_tokenizer import train_tokenizer
from modeling.models.t5 import new_t5
from modeling.models.vip5 import VIP5, set_trainable
from modeling.runtime.random_state import seeded
from modeling.training.loop import fit
from modeling.training.training_log import peak_memory_gb

NUM_USERS, NUM_ITEMS, WIDTH, PHOTO = 5000, 3000, 512, "<extra_id_0> <extra_id_0>"
WORDS = ("a", "good", "toy", "for", "kids", "with", "great", "colour", "and", "very", "nice", "quality", "our")
ORIGINAL, ORIGINAL_PRODUCT = 0.4476, 75.0  # examples, and GFLOP of a matrix product, per CPU-second of the original
SHARES = {"history": 0.407, "yes_no": 0.233, "candidates": 0.174, "explanation": 0.186}


def example(kind: str, generator: np.random.Generator) -> dict[str, Any]:
    """A synthetic prompt row of the given kind."""
    user = int(generator.integers(1, NUM_USERS + 1))
    num_items = {"history": 2 + int(generator.geometric(0.3)), "candidates": 100}.get(kind, 1)
    items = generator.choice(NUM_ITEMS, num_items, replace=False) + 1
    listed = " , ".join(f"{item} {PHOTO}" for item in items)
    target = str(items[-1])
    if kind == "history":
        family, prompt_id = "sequential", "A-1"
        source = f"User_{user} has bought , in this order : \n {listed} \n Which item will the user buy after these ?"
    elif kind == "candidates":
        family, prompt_id = "direct", "B-5"
        source = f"Which of these items fits user_{user} best ? \n {listed}"
    elif kind == "yes_no":
        family, prompt_id, target = "direct", "B-1", "yes"
        source = f"Should the item_{items[0]} {PHOTO} be shown to user_{user} as a good choice ?"
    else:
        family, prompt_id = "explanation", "C-3"
        title = " ".join(generator.choice(WORDS, 8))
        source = f"Write a 5 star explanation of user_{user} about this product : \n {title} {PHOTO}"
        target = " ".join(generator.choice(WORDS, int(generator.integers(6, 20))))
    return {
        "split": "train", "family": family, "prompt_id": prompt_id, "variant": "published", "round": 0, "user_id": user,
        "target_item_id": None, "image_item_ids": items.tolist(), "candidate_item_ids": None, "source": source,
        "target": target,
    }  # fmt: skip


def made_rows(count: int) -> pa.Table:
    """`count` rows of the mix, in random order."""
    generator = rng(0, "benchmark", "mix")
    kinds = generator.choice(list(SHARES), count, p=list(SHARES.values()))
    rows = [example(str(kind), generator) | {"example_id": i} for i, kind in enumerate(kinds)]
    return from_rows(prompts("train", "sequential"), rows)


def measure_loader(
    rows: pa.Table, tokens: VIP5Tokenizer, photos: PhotoTable, params: LoopParams
) -> tuple[PromptDataset, dict[str, Any]]:
    """Loads the dataset; returns it and examples per CPU-second of tokenising, and of planning and batching."""
    started = time.process_time()
    corpus = PromptDataset(rows, tokens, photos)
    tokenised = time.process_time() - started
    started = time.process_time()
    sampler = StepSampler(
        corpus, replace(params, schedule=replace(params.schedule, epochs=1)), seed=0, stage="benchmark"
    )
    passes = [batch.rows for step in DataLoader(corpus, batch_sampler=sampler, collate_fn=list) for batch in step]
    batched = time.process_time() - started
    return corpus, {
        "examples": len(corpus),
        "source_tokens_per_example": round(float(corpus.lengths.mean()), 1),
        "tokenise_examples_per_cpu_second": round(len(corpus) / tokenised, 1),
        "batch_examples_per_cpu_second": round(len(corpus) / batched, 1),
        "loader_examples_per_cpu_second_first_epoch": round(len(corpus) / (tokenised + batched), 1),
        "rows_per_pass": round(len(corpus) / len(passes), 1),
        "padding_share": round(padding_share(passes, corpus.lengths), 4),
    }


def small_vip5(tokens: VIP5Tokenizer, dropout: float) -> VIP5:
    """VIP5 at T5-small size with the published settings."""
    vision = VisionParams(width=WIDTH, num_visual_tokens=2, missing_photo="zeros")
    with seeded(0, "benchmark"):
        t5 = new_t5(Scratch(), vocabulary_size=tokens.size, dropout=dropout)
        model = VIP5(t5, adapters=AdapterParams(init="linear", routing="single"), vision=vision)
    set_trainable(model, tune="parts", small_embeddings=False)
    return model.train()


def measure_steps(model: VIP5, corpus: PromptDataset, params: LoopParams) -> dict[str, Any]:
    """Speed and memory of the training loop, including loading, clipping and the optimizer."""
    device = next(model.parameters()).device
    on_gpu = device.type == "cuda"
    warm_up = replace(params, schedule=replace(params.schedule, max_steps=12 if on_gpu else 1))
    if not on_gpu:
        warm_up = replace(warm_up, batching=replace(params.batching, batch_size=2))
    started = time.monotonic()
    fit(model, corpus, None, warm_up, seed=1, stage="warm-up")
    finish(device)
    warmed = time.monotonic() - started
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(device)
    wall, cpu = time.monotonic(), time.process_time()
    compiled = replace(params, compute=replace(params.compute, compile=False))
    history = fit(model, corpus, None, compiled, seed=0, stage="benchmark")
    finish(device)
    wall, cpu = time.monotonic() - wall, time.process_time() - cpu
    return {
        "device": torch.cuda.get_device_name(device) if on_gpu else "cpu",
        "warm_up_seconds": round(warmed, 1),
        "wall_seconds": round(wall, 2),
        "source_tokens_per_wall_second": round(history.source_tokens / wall, 1),
        "product_tflop_per_wall_second": round(product_flops(model, corpus, history.examples) / wall / 1e12, 2),
        "kernels": params.compute.kernels,
        "batching": params.batching.order,
        "steps": history.steps,
        "examples": history.examples,
        "source_tokens_per_example": round(history.source_tokens / history.examples, 1),
        "padding_share": round(history.padding_share, 4),
        "cpu_seconds": round(cpu, 2),
        "examples_per_cpu_second": round(history.examples / cpu, 3),
        "examples_per_wall_second": round(history.examples / wall, 3),
        "source_tokens_per_cpu_second": round(history.source_tokens / cpu, 1),
        "peak_memory_gb": round(peak_memory_gb(device), 2),
    }


def finish(device: torch.device) -> None:
    """Synchronises with the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def product_flops(model: VIP5, corpus: PromptDataset, examples: int) -> float:
    """Operations of the products with T5's weights, forward and backward, without padding and attention."""
    encoder = sum(p.numel() for n, p in model.t5.encoder.named_parameters() if p.dim() == 2 and n.startswith("block."))
    read = [
        p for n, p in model.t5.decoder.named_parameters() if ".EncDecAttention.k." in n or ".EncDecAttention.v." in n
    ]
    decoder = sum(p.numel() for n, p in model.t5.decoder.named_parameters() if p.dim() == 2 and n.startswith("block."))
    of_source: int = encoder + sum(p.numel() for p in read)
    of_target: int = decoder - sum(p.numel() for p in read) + model.t5.lm_head.weight.numel()
    source, target = float(corpus.lengths.sum()), float(corpus.targets.lengths.sum())
    directions = 3 if next(model.t5.parameters()).requires_grad else 2
    return 2.0 * directions * (of_source * source + of_target * target) * examples / len(corpus)


def measure_product(size: int = 1536, repeats: int = 4) -> float:
    """GFLOP per CPU-second of a square float32 matrix product: the current speed of the machine."""
    with seeded(0, "product"):
        left, right = torch.rand(size, size), torch.rand(size, size)
    left @ right
    started = time.process_time()
    for _ in range(repeats):
        left @ right
    return round(2 * size**3 * repeats / (time.process_time() - started) / 1e9, 1)


def main(argv: Sequence[str] | None = None) -> int:
    """Prints the measurements."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--tokenizer", type=Path, help="folder with tokenizer.json; default: trained on the mix")
    parser.add_argument("--examples", type=int, default=4000)
    parser.add_argument("--epochs", type=int, default=1, help="maximum number of epochs")
    parser.add_argument("--steps", type=int, default=6, help="optimizer steps; 0 runs all epochs")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--batch-size", type=int, default=36)
    parser.add_argument("--tokens-per-batch", type=int, default=4000)
    parser.add_argument("--batching", choices=("shuffled", "length_bucketed"), default="shuffled")
    parser.add_argument("--kernels", choices=("fused", "reference"), default="fused")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--dropout", type=float, default=0.1)
    arguments = parser.parse_args(argv)
    torch.set_num_threads(arguments.threads)
    rows = made_rows(arguments.examples)
    texts = [*rows["source"].to_pylist(), *rows["target"].to_pylist()]
    tokens = (
        VIP5Tokenizer.load(arguments.tokenizer) if arguments.tokenizer else VIP5Tokenizer(train_tokenizer(texts, 4000))
    )
    features = rng(0, "benchmark", "photos").standard_normal((NUM_ITEMS + 1, WIDTH)).astype(np.float32)
    photos = PhotoTable(features, np.ones(NUM_ITEMS + 1, bool))
    params = LoopParams(
        schedule=Schedule(epochs=arguments.epochs, max_steps=arguments.steps or None),
        batching=Batching(
            batch_size=arguments.batch_size,
            max_tokens_per_microbatch=arguments.tokens_per_batch,
            order=arguments.batching,
        ),
        optimizer=Optimizer(decay_norms=True),
        objective=Objective(loss_reduction="paper"),
        validation=Validation(examples_per_family=0),
        checkpoint=Checkpoint(every_seconds=None),
        compute=Compute(
            compile=arguments.compile,
            kernels="reference" if arguments.compile else arguments.kernels,
            dtype=arguments.dtype,
        ),
    )
    corpus, loader = measure_loader(rows, tokens, photos, params)
    device = torch.device(arguments.device)
    before = measure_product()
    steps = measure_steps(small_vip5(tokens, arguments.dropout).to(device), corpus, params)
    product = [before, measure_product()]
    if device.type == "cuda":
        steps["bfloat16_product_tflop_per_second"] = round(product_rate(str(device), torch.bfloat16, 8192), 1)
    scaled = steps["examples_per_cpu_second"] / ORIGINAL * ORIGINAL_PRODUCT / (sum(product) / 2)
    results = {
        "threads": arguments.threads,
        "loader": loader,
        "training": steps,
        "product_gflop_per_cpu_second": product,
        "times_the_original_scaled_by_the_product": round(scaled, 2),
    }
    print(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
