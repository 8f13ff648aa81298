"""Benchmarks fine-tuning methods on a trained backbone: adapters of several sizes, LoRA and full fine-tuning.

Reads the tables and the backbone of a dataset (after `dvc repro pretrain prompts images`); prints one JSON line per
method: trained values, CPU-seconds per epoch, peak memory and validation metrics by family.
Trade-off: each method trains in its own process, by default for the schedule of `params.yaml` and always with its
learning rate. With `--steps` it is shorter: the metrics then compare methods after the same number of steps, not at
convergence.

    .venv/bin/python -m benchmarks.tuning [--params params.yaml] [--steps 300] [--only lora,parts]
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import yaml

from features.runtime.params import load_yaml
from features.runtime.stage import load
from modeling.config.model import VisionParams
from modeling.train import SECTIONS, Params

VALID_ROWS = 800  # of each family


@dataclass(frozen=True)
class Way:
    """A fine-tuning method: the changes to the section `train`."""

    tune: Literal["parts", "full"] = "parts"
    new_tokens: Literal["trained", "frozen"] = "trained"
    small_embeddings: Literal["trained", "frozen"] = "trained"
    adapters: dict[str, Any] = field(default_factory=dict)
    """Changed parameters of the adapters."""
    visual_tokens: int | None = None
    """Visual tokens per photo; None: as in `params.yaml`."""


WAYS = {
    "parts, reduction 8": Way(adapters={"reduction": 8}),
    "parts, reduction 4": Way(adapters={"reduction": 4}),
    "parts, reduction 2": Way(adapters={"reduction": 2}),
    "parts, one shared adapter": Way(adapters={"routing": "single"}),
    "parts, new tokens frozen": Way(new_tokens="frozen"),
    "parts, small embeddings frozen": Way(small_embeddings="frozen"),
    "parts, published start": Way(adapters={"init": "linear"}),
    "parts, 1 visual token": Way(visual_tokens=1),
    "parts, 4 visual tokens": Way(visual_tokens=4),
    "lora, rank width / 8": Way(adapters={"kind": "lora", "reduction": 8}),
    "full": Way("full", adapters={"routing": "single"}),
    "full, an adapter a family": Way("full", adapters={"routing": "per_family"}),
}


def measure(path: Path, name: str, steps: int | None) -> dict[str, Any]:
    """Measures one method in this process; `steps` limits the schedule."""
    import torch

    from modeling.models.vip5 import num_trained
    from modeling.training import recipe
    from modeling.training.loop import fit
    from modeling.training.validation import Validator, fixed_rows

    params, context = load(path, "train", Params, SECTIONS)
    way = WAYS[name]
    params = replace(
        params,
        schedule=replace(params.schedule, max_steps=steps),
        validation=replace(params.validation, checkpoint_metric="last"),
        compute=replace(params.compute, num_threads=1, device="cpu"),
    )
    torch.set_num_threads(1)
    photos = recipe.read_photos(context)
    tokens_per_photo = int(context.shared["num_visual_tokens"])
    model, tokens = recipe.new_vip5(
        context,
        photos,
        replace(params.adapters, **way.adapters),
        VisionParams(
            width=photos.width,
            num_visual_tokens=tokens_per_photo,
            missing_photo=params.missing_photo,
            standardise=params.standardise_photos,
        ),
        dropout=params.objective.dropout,
        tune=way.tune,
        small_embeddings=way.small_embeddings == "trained",
        new_tokens=way.new_tokens == "trained",
    )
    limit = recipe.read_backbone_manifest(context)["tokens"]["max_target_tokens"]
    prompts = recipe.read_prompts(context, tokens, photos, families=params.families, max_target_tokens=limit)
    started = time.process_time()
    history = fit(model, prompts.train, None, params, seed=context.seed, stage="train")
    seconds = time.process_time() - started
    rows = fixed_rows(prompts.valid, prompts.train.prompt_ids.unique().to_pylist(), VALID_ROWS, context.seed)
    valid = Validator(prompts.valid, rows)(model)
    trained, whole = num_trained(model), sum(p.numel() for p in model.parameters())
    return {
        "way": name,
        "trained": trained,
        "share": round(trained / whole, 4),
        "steps": history.steps,
        "cpu_seconds": round(seconds, 1),
        "cpu_seconds_a_step": round(seconds / history.steps, 4),
        "peak_memory_gb": round(history.peak_memory_gb, 2),
        **{metric: round(value, 4) for metric, value in valid.items()},
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Prints one JSON line per method."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--steps", type=int, help="limit of the steps; without it, the schedule of the parameters")
    parser.add_argument("--only", default="", help="comma-separated words; runs the methods that contain one of them")
    parser.add_argument("--way", choices=WAYS, help="measure this method in this process")
    arguments = parser.parse_args(argv)
    if arguments.way:
        print(json.dumps(measure(arguments.params, arguments.way, arguments.steps)))
        return 0
    limit = [] if arguments.steps is None else ["--steps", str(arguments.steps)]
    for name, way in WAYS.items():
        if any(word in name for word in arguments.only.split(",")):
            with TemporaryDirectory(prefix="tuning-") as scratch:
                command = [sys.executable, "-m", "benchmarks.tuning", *limit, "--way", name]
                if way.visual_tokens is None:
                    subprocess.run([*command, "--params", str(arguments.params)], check=True)
                else:
                    root = other_prompts(arguments.params, way.visual_tokens, Path(scratch))
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
