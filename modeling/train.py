"""Stage `train`: trains VIP5: adapters, visual projector and layer norms on a frozen backbone.

Reads prompts (train, valid), image embeddings and the backbone of `pretrain`. Writes `models/<dataset>/train/`.
Trade-off: with a frozen backbone, a few percent of the parameters are trained and stored; `tune: full` trains all.
"""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from features import schema
from features.errors import TableError
from features.runtime import stage
from features.runtime.stage import Context
from modeling.config.model import AdapterParams, VisionParams
from modeling.config.training import LoopParams
from modeling.training.run_files import checkpoints_of, manifest_of, prompt_tables

SECTIONS = ("num_visual_tokens",)
_PROMPTS = tuple(f"prompts/{split}/{family}" for split in ("train", "valid") for family in schema.FAMILIES)
READS = (
    *(f"data/${{dataset}}/{name}" for name in ("identifiers", "images/embeddings", *_PROMPTS)),
    "models/${dataset}/pretrain",
)
WRITES = ("models/${dataset}/train", "plots/${dataset}/train.csv", "metrics/${dataset}/train.json")


@dataclass(frozen=True, kw_only=True)
class Params(LoopParams):
    """Parameters of the stage `train`."""

    tune: Literal["parts", "full"] = "parts"
    """parts: train adapters, visual projector and layer norms, with a frozen backbone. full: train everything."""
    small_embeddings: Literal["trained", "frozen"] = "trained"
    """Whether the whole-word and category embeddings are trained; the paper keeps them at their random values."""
    missing_photo: Literal["learned", "zeros"] = "learned"
    """Replacement of a missing photo: learned vectors, or a zero feature (the paper)."""
    standardise_photos: bool = True
    """Whether image features are standardised by the catalogue; the paper uses raw features."""
    adapters: AdapterParams = field(default_factory=AdapterParams)
    """Shape of the adapters."""


def run(params: Params, context: Context) -> int:
    """Train the parts that VIP5 adds to the backbone on every train prompt and save them."""
    import torch

    from modeling.data.prompt_dataset import PhotoTable, PromptDataset
    from modeling.models.checkpoints import adapters_and_vision, open_model, read_manifest, save_trained
    from modeling.models.vip5 import set_trainable
    from modeling.runtime.devices import device_of
    from modeling.runtime.distributed import process_group, rank
    from modeling.training.curves import write_curve, write_metrics
    from modeling.training.loop import fit
    from modeling.training.validation import Validator, fixed_rows

    device = device_of(params.compute)
    photos = PhotoTable.load(context.table("images/embeddings"))
    visual_tokens = int(context.shared["num_visual_tokens"])
    vision = VisionParams(
        width=photos.width,
        num_visual_tokens=visual_tokens,
        missing_photo=params.missing_photo,
        standardise=params.standardise_photos,
    )
    model, tokens = open_model(
        context, adapters=params.adapters, vision=vision, dropout=params.objective.dropout, seed=context.seed
    )
    if model.visual is not None:
        model.visual.fit_standardisation(torch.from_numpy(photos.features[photos.present]))
    set_trainable(model, tune=params.tune, small_embeddings=params.small_embeddings == "trained")
    limit = read_manifest(context, "pretrain")["tokens"]["max_target_tokens"]
    train = PromptDataset.load(prompt_tables(context, "train"), tokens, photos, max_target_tokens=limit)
    valid = PromptDataset.load(prompt_tables(context, "valid"), tokens, photos, max_target_tokens=limit)
    if train.num_visual_tokens not in {0, visual_tokens}:
        raise TableError(
            f"{train.num_visual_tokens} placeholders per photo in the prompts",
            f"num_visual_tokens = {visual_tokens}", "run `.venv/bin/dvc repro prompts`",
        )  # fmt: skip
    rows = fixed_rows(valid, train.prompt_ids.unique().to_pylist(), params.validation.examples_per_family, context.seed)
    validator = Validator(valid, rows) if len(rows) else None
    made_from = manifest_of(params, context, ("images/embeddings", *_PROMPTS))
    backbone = {"backbone_digest": read_manifest(context, "pretrain")["backbone_digest"], "vision": asdict(vision)}
    checkpoints = checkpoints_of(context, "train", made_from | backbone)
    with process_group(device):
        training_log = fit(
            model.to(device), train, validator, params, seed=context.seed, stage="train", checkpoints=checkpoints
        )
    if rank():
        return training_log.examples
    save_trained(
        context, model, made_from | adapters_and_vision(params.adapters, vision) | {"training": training_log.ending()}
    )
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    total = sum(p.numel() for p in model.parameters())
    write_curve(context, "train", training_log)
    write_metrics(context, "train", training_log, num_parameters=total, num_trained_parameters=trained)
    shutil.rmtree(checkpoints, ignore_errors=True)
    return training_log.examples


def main(argv: Sequence[str] | None = None) -> int:
    """The command `python -m modeling.train`."""
    return stage.main("train", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
