"""Writes a trained LoRA in the format of the peft library, to be loaded onto the T5 of `models/<dataset>/pretrain`.

Reads a trained VIP5 and the tensors of its backbone; writes `adapter_config.json` and `adapter_model.safetensors`.
A folder holds the low-rank updates, the trained layer norms (`modules_to_save`) and the rows of token tables that
training changed (`trainable_token_indices`). The visual projector and the whole-word and category embeddings are no
part of a T5; `trained.safetensors` has them.
Trade-off: a peft adapter knows no prompt families, so `routing: per_family` becomes one folder per family.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from features.schema import FAMILIES
from modeling.models.adapters import LowRank, projections
from modeling.models.t5 import is_tied
from modeling.models.vip5 import VIP5

CONFIG_FILE, TENSORS_FILE = "adapter_config.json", "adapter_model.safetensors"
_PREFIX = "base_model.model."
_NORM = "layer_norm.weight"
_TABLES = ("shared.weight", "lm_head.weight")


def write_peft(folder: Path, model: VIP5, stock: Path, *, base_model: str) -> list[Path]:
    """Writes the LoRA of `model`, one folder per family if it has one update per family.

    Args:
        folder: where to write; families are written in folders of their names below it.
        model: a trained model.
        stock: file with the tensors of the T5 before training.
        base_model: path of the T5, as the configuration names it.

    Returns:
        The written folders; none for other adapters, or where more of the T5 than norms and token tables is trained.
    """
    from safetensors.torch import load_file, save_file

    updates = (
        {} if model.adapters is None else {name: u for name, u in model.adapters.items() if isinstance(u, LowRank)}
    )
    trained = {name for name, p in model.t5.named_parameters() if p.requires_grad}
    if not updates or any(name not in _TABLES and not name.endswith(_NORM) for name in trained):
        return []
    first = next(iter(updates.values()))
    num_routes, rank = first.down_weight.shape[:2]
    others, rows = _norms_and_rows(model, load_file(stock), trained)
    config = {
        "peft_type": "LORA",
        "task_type": "SEQ_2_SEQ_LM",
        "base_model_name_or_path": base_model,
        "inference_mode": True,
        "r": rank,
        "lora_alpha": first.scale * rank,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": ["q", "v"] if any("cross" in name for name in updates) else r".*\.SelfAttention\.(q|v)",
        "modules_to_save": ["layer_norm", "final_layer_norm"] if others else None,
        "trainable_token_indices": rows or None,
    }
    written = []
    for route in range(num_routes):
        target = folder if num_routes == 1 else folder / FAMILIES[route]
        target.mkdir(parents=True)
        tensors = {**others, **_updates(model, updates, route)}
        save_file({_PREFIX + name: t.detach().cpu().contiguous() for name, t in tensors.items()}, target / TENSORS_FILE)
        (target / CONFIG_FILE).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        written.append(target)
    return written


def _updates(model: VIP5, updates: Mapping[str, LowRank], route: int) -> dict[str, Tensor]:
    """Both factors of every low-rank update, by peft's names."""
    paths = {module: path for path, module in model.t5.named_modules()}
    tensors = {}
    for name, linear in projections(model.t5):
        if name in updates:
            tensors[f"{paths[linear]}.lora_A.weight"] = updates[name].down_weight[route]
            tensors[f"{paths[linear]}.lora_B.weight"] = updates[name].up_weight[route]
    return tensors


def _norms_and_rows(
    model: VIP5, stock: Mapping[str, Tensor], trained: set[str]
) -> tuple[dict[str, Tensor], dict[str, list[int]]]:
    """The trained norms and changed rows of token tables, by peft's names, and the numbers of these rows by module."""
    parameters: dict[str, Any] = dict(model.t5.named_parameters())
    tensors = {name: parameters[name] for name in trained if name.endswith(_NORM)}
    numbers: dict[str, list[int]] = {}
    for name in _TABLES:
        if name not in trained:
            continue
        changed = (parameters[name].detach().cpu() != stock[name]).any(1).nonzero()[:, 0]
        ids = changed.tolist()
        if not ids:
            continue
        # peft ties what the library may tie unless the lists of rows differ; their order is enough.
        modules = _modules(name, tied=is_tied(model.t5))
        for module in modules:
            order = ids[::-1] if module == "lm_head" else ids
            numbers[module] = order
            tensors[f"{module}.token_adapter.trainable_tokens_delta"] = parameters[name][order]
    return tensors, numbers


def _modules(table: str, *, tied: bool) -> tuple[str, ...]:
    """Modules that read a token table."""
    if tied:
        return ("shared",)  # peft follows the ties
    return ("encoder.embed_tokens", "decoder.embed_tokens") if table == "shared.weight" else ("lm_head",)
