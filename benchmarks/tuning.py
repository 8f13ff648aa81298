"""Benchmarks fine-tuning methods on a trained backbone: adapters of several sizes, LoRA and full fine-tuning.

Reads the tables and the backbone of a dataset (after `dvc repro pretrain prompts images`); prints one JSON line per
method: trained parameters, CPU-seconds per epoch, peak memory and validation metrics.
Trade-off: each method trains a few hundred steps in its own process, with the learning rate of `params.yaml`; the
metrics compare methods after the same number of steps, not at convergence.

    .venv/bin/python -m benchmarks.tuning [--params params.yaml] [--steps 300] [--only lora,parts]
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml

from features.runtime.params import load_yaml
from features.runtime.stage import load
from modeling.config.model import AdapterParams
from modeling.train import SECTIONS, Params
from modeling.training.run_files import prompt_tables

WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    "parts, reduction 8": ("parts", {}),
    "parts, reduction 2": ("parts", {"reduction": 2}),
    "parts, reduction 32": ("parts", {"reduction": 32}),
    "parts, an adapter a family": ("parts", {"routing": "per_family"}),
    "parts, published start": ("parts", {"init": "linear"}),
    "lora, rank width / 8": ("parts", {"kind": "lora"}),
    "full": ("full", {}),
    "full, an adapter a family": ("full", {"routing": "per_family"}),
    "full, 1 visual token": ("full", {}),
    "full, 4 visual tokens": ("full", {}),
}
_VISUAL_TOKENS = re.compile(r"(\d+) visual token")


def measure(path: Path, way: str, steps: int) -> dict[str, Any]:
    """Measures one method in this process."""
    import torch

    from modeling.config.model import VisionParams
    from modeling.data.length_batching import StepSampler
    from modeling.data.prompt_dataset import PhotoTable, PromptDataset
    from modeling.models.checkpoints import open_model
    from modeling.models.vip5 import set_trainable
    from modeling.training.loop import fit
    from modeling.training.validation import Validator, fixed_rows

    params, context = load(path, "train", Params, SECTIONS)
    tune, changes = WAYS[way]
    params = replace(
        params,
        schedule=replace(params.schedule, max_steps=steps),
        validation=replace(params.validation, every_steps=steps, checkpoint_metric="last"),
        compute=replace(params.compute, num_threads=1, device="cpu"),
    )
    torch.set_num_threads(1)
    photos = PhotoTable.load(context.table("images/embeddings"))
    vision = VisionParams(
        width=photos.width, num_visual_tokens=int(context.shared["num_visual_tokens"]), standardise=True
    )
    adapters = replace(AdapterParams(**asdict(params.adapters)), **changes)
    model, tokens = open_model(
        context, adapters=adapters, vision=vision, dropout=params.objective.dropout, seed=context.seed
    )
    if model.visual is not None:
        model.visual.fit_standardisation(torch.from_numpy(photos.features[photos.present]))
    set_trainable(model, tune=tune, small_embeddings=True)  # type: ignore[arg-type]  # parts or full, above
    train = PromptDataset.load(prompt_tables(context, "train"), tokens, photos)
    valid = PromptDataset.load(prompt_tables(context, "valid"), tokens, photos)
    rows = fixed_rows(valid, train.prompt_ids.unique().to_pylist(), 200, context.seed)
    started = time.process_time()
    history = fit(model, train, Validator(valid, rows), params, seed=context.seed, stage="train")
    seconds = time.process_time() - started
    num_steps = len(
        StepSampler(
            train, replace(params, schedule=replace(params.schedule, epochs=1)), seed=context.seed, stage="train"
        )
    )
    trained, whole = (sum(p.numel() for p in model.parameters() if p.requires_grad or every) for every in (False, True))
    return {
        "way": way,
        "trained": trained,
        "share": round(trained / whole, 4),
        "cpu_seconds_an_epoch": round(seconds / steps * num_steps, 1),
        "peak_memory_gb": round(history.peak_memory_gb, 2),
        **{name: round(value, 4) for name, value in history.best.items()},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one JSON line per method."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--only", default="", help="comma-separated words; runs the methods that contain one of them")
    parser.add_argument("--way", choices=WAYS, help="measure this method in this process")
    arguments = parser.parse_args(argv)
    if arguments.way:
        print(json.dumps(measure(arguments.params, arguments.way, arguments.steps)))
        return 0
    for way in WAYS:
        if any(word in way for word in arguments.only.split(",")):
            with TemporaryDirectory(prefix="tuning-") as scratch:
                command = [sys.executable, "-m", "benchmarks.tuning", "--steps", str(arguments.steps), "--way", way]
                wanted = _VISUAL_TOKENS.search(way)
                if wanted is None:
                    subprocess.run([*command, "--params", str(arguments.params)], check=True)
                else:
                    root = other_prompts(arguments.params, int(wanted[1]), Path(scratch))
                    subprocess.run(command, check=True, cwd=root, env=environment())
    return 0


def environment() -> dict[str, str]:
    """The environment of a command in another folder that imports the code of this one."""
    return os.environ | {"PYTHONPATH": str(Path.cwd())}


def other_prompts(path: Path, visual_tokens: int, root: Path) -> Path:
    """Creates a workspace in `root` with the same tables and backbone, and prompts with `visual_tokens` per photo."""
    params = load_yaml(path)
    tables = Path("data") / params["dataset"]
    for table in (tables.resolve()).iterdir():
        if table.name != "prompts":
            (root / tables).mkdir(parents=True, exist_ok=True)
            (root / tables / table.name).symlink_to(table)
    for folder in ("models", "features"):
        (root / folder).symlink_to(Path(folder).resolve())
    params["num_visual_tokens"] = visual_tokens
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    subprocess.run([sys.executable, "-m", "pipelines.prompts"], check=True, cwd=root, env=environment())
    return root


if __name__ == "__main__":
    raise SystemExit(main())
