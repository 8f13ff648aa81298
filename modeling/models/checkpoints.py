"""Saves and loads trained models as safetensors with a JSON manifest.

Writes and reads `models/<dataset>/{pretrain,train}/`. Loading fails for a model of another dataset, backbone or set of
identifiers.
Trade-off: `train` stores only its trained parameters (a few percent) and the digest of the backbone, so both folders
are needed and checked together.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from features.errors import ModelError
from features.runtime.params import build
from features.runtime.stage import Places
from features.store.tables import begin_table, file_digest
from modeling.config.model import AdapterParams, VisionParams
from modeling.data.tokenizer import VIP5Tokenizer
from modeling.kernels.fused_modules import use_fused_modules
from modeling.models.model_manifest import check_files, finish_model, read_manifest
from modeling.models.peft_format import write_peft
from modeling.models.t5 import CONFIG_FILE, WEIGHTS_FILE, is_tied, load_t5
from modeling.models.vip5 import PHOTO_CONSTANTS, TOKEN_TABLES, VIP5, partly_trained
from modeling.runtime.random_state import seeded

TRAINED_FILE, PEFT_FOLDER = "trained.safetensors", "peft"


def save_backbone(places: Places, model: VIP5, tokens: VIP5Tokenizer, manifest: Mapping[str, Any]) -> Path:
    """Writes `models/<dataset>/pretrain/` and returns the folder; the transformers library can load it as a T5."""
    from safetensors.torch import save_file

    folder = places.model("pretrain")
    staging = begin_table(folder)
    tied = ("t5.encoder.embed_tokens.", "t5.decoder.embed_tokens.", *(("t5.lm_head.",) if is_tied(model.t5) else ()))
    tensors = {
        name.removeprefix("t5."): tensor.detach().cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if not name.startswith(tied)
    }
    save_file(tensors, staging / WEIGHTS_FILE, metadata={"format": "pt"})
    (staging / CONFIG_FILE).write_text(model.t5.config.to_json_string(use_diff=False), encoding="utf-8")
    tokens.save(staging)
    entries = {"stage": "pretrain", "backbone_digest": file_digest(staging / WEIGHTS_FILE)[:16]}
    return finish_model(folder, staging, places, entries | dict(manifest))


def save_trained(places: Places, model: VIP5, manifest: Mapping[str, Any]) -> Path:
    """Writes `models/<dataset>/train/` with the parameters named by `stored` and, for LoRA, `peft`; returns it."""
    from safetensors.torch import save_file

    folder = places.model("train")
    staging = begin_table(folder)
    parameters, partly = dict(model.named_parameters()), partly_trained(model)
    tensors = {
        name: parameters[name].detach()[model.is_identifier if name in partly else ...] for name in stored(model)
    }
    tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
    save_file(tensors, staging / TRAINED_FILE, metadata={"format": "pt"})
    stock = places.model("pretrain") / WEIGHTS_FILE
    write_peft(staging / PEFT_FOLDER, model, stock, base_model=f"models/{places.dataset}/pretrain")
    backbone = read_manifest(places, "pretrain")["backbone_digest"]
    entries = {"stage": "train", "backbone_digest": backbone, "tensors": stored(model)}
    return finish_model(folder, staging, places, entries | dict(manifest))


def stored(model: VIP5) -> list[str]:
    """Names of the parameters that `train` stores: trained ones and the constants that standardise photos."""
    return [n for n, p in model.named_parameters() if p.requires_grad or n in PHOTO_CONSTANTS]


def load_vip5(places: Places, *, device: torch.device | str = "cpu") -> tuple[VIP5, VIP5Tokenizer]:
    """Loads the trained VIP5 of a dataset, in evaluation mode, and its tokenizer.

    Raises:
        ModelError: a file is missing or damaged, or belongs to another dataset, backbone or set of identifiers.
    """
    from safetensors.torch import load_file

    manifest = read_manifest(places, "train")
    weights = places.model("pretrain") / WEIGHTS_FILE
    current = _backbone_digest(places, weights)
    if manifest["backbone_digest"] != current:
        raise ModelError(
            f"{places.model('train')} trained on backbone {manifest['backbone_digest']}",
            f"backbone {current} ({weights})",
            "run `.venv/bin/dvc repro train`",
        )
    check_files(places.model("train"), manifest, "train")
    vision = build(VisionParams, manifest["vision"], where="vision") if manifest["vision"] else None
    adapters = build(AdapterParams, manifest["adapters"], where="adapters") if manifest["adapters"] else None
    model, tokens = open_model(places, adapters=adapters, vision=vision)
    tensors = load_file(places.model("train") / TRAINED_FILE)
    parameters = dict(model.named_parameters())
    if set(tensors) != set(manifest["tensors"]) or not set(tensors) <= set(parameters):
        differing = sorted(set(tensors) ^ set(manifest["tensors"]) | set(tensors) - set(parameters))[:3]
        raise ModelError(
            f"tensors {differing} in {places.model('train')}",
            "those of its manifest",
            "run `.venv/bin/dvc repro train`",
        )
    with torch.no_grad():
        for name, tensor in tensors.items():
            if name in TOKEN_TABLES and len(tensor) != len(parameters[name]):
                parameters[name][model.is_identifier] = tensor
            else:
                parameters[name].copy_(tensor)
    return _for_inference(model, device), tokens


def _backbone_digest(places: Places, weights: Path) -> str:
    """The digest of the backbone: that of its manifest, with which `open_model` compares the file, or else its own."""
    if not weights.is_file():
        return "no file"
    listed: dict[str, str] = read_manifest(places, "pretrain").get("files", {})
    return (listed.get(WEIGHTS_FILE) or file_digest(weights))[:16]


def load_backbone_only(places: Places, *, device: torch.device | str = "cpu") -> tuple[VIP5, VIP5Tokenizer]:
    """Loads the text-only P5 backbone with the interface of VIP5; its datasets must be loaded with photos=None."""
    model, tokens = open_model(places)
    return _for_inference(model, device), tokens


def _for_inference(model: VIP5, device: torch.device | str) -> VIP5:
    """Moves `model` to `device`, in evaluation mode and with fused modules."""
    use_fused_modules(model.t5)
    return model.to(device).eval()


def open_model(
    places: Places,
    *,
    adapters: AdapterParams | None = None,
    vision: VisionParams | None = None,
    dropout: float = 0.0,
    seed: int = 0,
) -> tuple[VIP5, VIP5Tokenizer]:
    """Loads the backbone of `models/<dataset>/pretrain` with newly initialised VIP5 parts, and its tokenizer."""
    manifest = read_manifest(places, "pretrain")
    folder = places.model("pretrain")
    check_files(folder, manifest, "pretrain")
    t5, small = load_t5(folder, dropout=dropout)
    limits = manifest["tokens"]
    tokens = VIP5Tokenizer.load(folder, max_source_tokens=limits["max_source_tokens"], truncate=limits["truncate"])
    with seeded(seed, "parts of VIP5"):
        model = VIP5(t5, adapters=adapters, vision=vision, identifiers=tokens.identifier_ids)
    model.whole_word.load_state_dict({"weight": small["whole_word.weight"]})
    model.category.load_state_dict({"weight": small["category.weight"]})
    if tokens.size != t5.config.vocab_size:
        raise ModelError(
            f"{tokens.size} tokens in {folder}",
            f"{t5.config.vocab_size} as in the model",
            "run `.venv/bin/dvc repro pretrain`",
        )
    return model, tokens


def adapters_and_vision(adapters: AdapterParams | None, vision: VisionParams | None) -> dict[str, Any]:
    """The entries of `train`'s manifest that describe the shape of the model."""
    return {
        "adapters": asdict(adapters) if adapters else None,
        "vision": asdict(vision) if vision else None,
        "num_visual_tokens": vision.num_visual_tokens if vision else 0,
    }
