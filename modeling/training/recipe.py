"""The steps of the stages `pretrain` and `train`: read prompts, make a model, train it, write it.

Reads prompt and photo tables and, for VIP5, the trained backbone. Writes `models/<dataset>/<stage>/`, the curve and the
metrics; only rank 0 writes.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from features.runtime import torchrun
from features.runtime.stage import Context
from modeling.config.model import AdapterParams, VisionParams
from modeling.config.training import LoopParams
from modeling.data.prompt_dataset import PhotoTable, PromptDataset
from modeling.data.tokenizer import VIP5Tokenizer
from modeling.models.checkpoints import adapters_and_vision, open_model, save_backbone, save_trained
from modeling.models.model_manifest import read_manifest
from modeling.models.vip5 import VIP5, num_trained, set_trainable
from modeling.runtime.devices import device_of
from modeling.runtime.distributed import process_group
from modeling.training.curves import write_curve, write_metrics
from modeling.training.distillation import Teacher
from modeling.training.loop import fit
from modeling.training.run_files import prompt_tables
from modeling.training.training_log import TrainingLog
from modeling.training.validation import Validator, fixed_rows


@dataclass(frozen=True)
class Prompts:
    """The train prompts of the trained families, and the valid prompts of all."""

    train: PromptDataset
    valid: PromptDataset


def select_device(params: LoopParams) -> torch.device:
    """The device of `params`; also sets torch's number of CPU threads."""
    return device_of(params.compute)


def read_photos(context: Context) -> PhotoTable:
    """Reads the image features of the catalogue."""
    return PhotoTable.load(context.table("images/embeddings"))


def read_prompts(
    context: Context, tokens: VIP5Tokenizer, photos: PhotoTable | None, *, families: Sequence[str],
    max_target_tokens: int,
) -> Prompts:  # fmt: skip
    """Reads and tokenises the train prompts of `families` and all valid prompts; without photos if `photos` is None."""
    train, valid = (
        PromptDataset.load(tables, tokens, photos, max_target_tokens=max_target_tokens)
        for tables in (prompt_tables(context, "train", families), prompt_tables(context, "valid"))
    )
    return Prompts(train, valid)


def read_backbone_manifest(context: Context) -> dict[str, Any]:
    """Reads the manifest of the trained backbone."""
    return read_manifest(context, "pretrain")


def new_vip5(
    context: Context, photos: PhotoTable, adapters: AdapterParams, vision: VisionParams, *, dropout: float,
    tune: Literal["parts", "full"], small_embeddings: bool, new_tokens: bool,
) -> tuple[VIP5, VIP5Tokenizer]:  # fmt: skip
    """Adds newly initialised VIP5 parts to the trained backbone; standardises features by the photos of the catalogue.

    Returns:
        The model and its tokenizer.
    """
    model, tokens = open_model(context, adapters=adapters, vision=vision, dropout=dropout, seed=context.seed)
    if model.visual is not None:
        model.visual.fit_standardisation(torch.from_numpy(photos.features[photos.present]))
    set_trainable(model, tune=tune, small_embeddings=small_embeddings, new_tokens=new_tokens)
    return model, tokens


def train_model(
    model: VIP5, prompts: Prompts, params: LoopParams, *, seed: int, stage: str, device: torch.device,
    checkpoints: Path, teacher: Teacher | None = None,
) -> TrainingLog:  # fmt: skip
    """Trains `model` in place, on `device` and in all processes of torchrun; see `fit`."""
    prompt_ids = prompts.train.prompt_ids.unique().to_pylist()
    rows = fixed_rows(prompts.valid, prompt_ids, params.validation.examples_per_family, seed)
    validator = Validator(prompts.valid, rows) if len(rows) else None
    with process_group(device):
        return fit(
            model.to(device), prompts.train, validator, params, seed=seed, stage=stage,
            checkpoints=checkpoints, teacher=teacher,
        )  # fmt: skip


def write_backbone(
    context: Context, model: VIP5, tokens: VIP5Tokenizer, manifest: Mapping[str, Any], training_log: TrainingLog
) -> None:
    """Writes the trained backbone, its curve and its metrics."""
    if torchrun.rank():
        return
    save_backbone(context, model, tokens, {**manifest, "training": training_log.ending()})
    write_curve(context, "pretrain", training_log)
    write_metrics(context, "pretrain", training_log, num_parameters=sum(p.numel() for p in model.parameters()))


def write_vip5(
    context: Context, model: VIP5, adapters: AdapterParams, vision: VisionParams, *, manifest: Mapping[str, Any],
    training_log: TrainingLog,
) -> None:  # fmt: skip
    """Writes the trained parameters of VIP5, its curve and its metrics."""
    if torchrun.rank():
        return
    shape = adapters_and_vision(adapters, vision)
    save_trained(context, model, {**manifest, **shape, "training": training_log.ending()})
    total, trained = sum(p.numel() for p in model.parameters()), num_trained(model)
    write_curve(context, "train", training_log)
    write_metrics(context, "train", training_log, num_parameters=total, num_trained_parameters=trained)


def remove_states(checkpoints: Path) -> None:
    """Removes the states of a run whose results are written."""
    if not torchrun.rank():
        shutil.rmtree(checkpoints, ignore_errors=True)
