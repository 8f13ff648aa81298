"""Where the golden numbers of the original lie, and the weights that they were computed with."""

import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
REAL_DATA = ROOT / os.environ.get("VIP5_REAL_DATA", "../shared/data")
GOLDEN = REAL_DATA.parent / "spec" / "golden"
T5_TOKENIZER = REAL_DATA / "t5_tokenizer"


def need(path: Path) -> Path:
    """`path`, or a skipped test that says what is missing."""
    if not path.exists():
        pytest.skip(f"no {path}: set VIP5_REAL_DATA to the folder of real data")
    return path


def weight(name: str, shape: tuple[int, ...], offset: float, scale: float) -> npt.NDArray[np.float32]:
    """The golden model's parameter `name`, bit for bit."""
    uniform = np.random.RandomState(zlib.crc32(name.encode("ascii"))).random_sample(shape)
    return np.asarray(offset + scale * ((2.0 * uniform - 1.0) * 1.7320508075688772), np.float32)


def offset_and_scale(name: str) -> tuple[float, float]:
    """The table of the golden README, as a rule of the name."""
    if "layer_norm" in name:
        return 1.0, 0.1
    if name == "token_embedding":
        return 0.0, 0.6
    return 0.0, 0.05 if name.endswith(".bias") else 0.3


_PROJECTIONS = {"query": "q", "key": "k", "value": "v", "output": "o"}
_ATTENTIONS = {"self_attention": (0, "SelfAttention"), "cross_attention": (1, "EncDecAttention")}
_ADAPTER_PARTS = {
    "down.weight": "down_weight",
    "down.bias": "down_bias",
    "up.weight": "up_weight",
    "up.bias": "up_bias",
}
_PLAIN = {
    "token_embedding": "t5.shared.weight",
    "whole_word_embedding": "whole_word.weight",
    "category_embedding": "category.weight",
    "visual.linear1.weight": "visual.inner.weight",
    "visual.linear1.bias": "visual.inner.bias",
    "visual.linear2.weight": "visual.outer.weight",
    "visual.linear2.bias": "visual.outer.bias",
    "visual.layer_norm.weight": "visual.norm.weight",
    "encoder.final_layer_norm": "t5.encoder.final_layer_norm.weight",
    "decoder.final_layer_norm": "t5.decoder.final_layer_norm.weight",
    "encoder.relative_position_bias": "t5.encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
    "decoder.relative_position_bias": "t5.decoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
}


def our_name(name: str) -> str:
    """The VIP5 parameter that the golden README calls `name`."""
    if name in _PLAIN:
        return _PLAIN[name]
    side, block, sublayer, rest = name.split(".", 3)
    index = block.removeprefix("block")
    if rest.startswith("adapter."):
        return f"adapters.{side}_{index}_{sublayer}.{_ADAPTER_PARTS[rest.removeprefix('adapter.')]}"
    place, attention = _ATTENTIONS.get(sublayer, (1 if side == "encoder" else 2, "DenseReluDense"))
    prefix = f"t5.{side}.block.{index}.layer.{place}"
    if rest == "layer_norm":
        return f"{prefix}.layer_norm.weight"
    part = {"inner": "wi", "outer": "wo"}.get(rest) or _PROJECTIONS[rest]
    return f"{prefix}.{attention}.{part}.weight"


def golden_model(names: list[str]) -> Any:
    """The tiny VIP5 of the golden README with its weights."""
    from modeling.config.model import AdapterParams, Scratch, VisionParams
    from modeling.models.t5 import new_t5
    from modeling.models.vip5 import VIP5

    scratch = Scratch(d_model=32, d_ff=64, num_heads=4, d_kv=8, num_layers=2, num_decoder_layers=2)
    model = VIP5(
        new_t5(scratch, vocabulary_size=32100, dropout=0.0),
        adapters=AdapterParams(reduction=4, init="linear", routing="single"),
        vision=VisionParams(width=16, num_visual_tokens=2, missing_photo="zeros"),
    )
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name in names:
            parameter = parameters[our_name(name)]
            shape = tuple(parameter.shape[1:] if name.count("adapter") else parameter.shape)
            values = weight(name, shape, *offset_and_scale(name))
            if name == "token_embedding":
                values[1] *= np.float32(-3.0)
            parameter.copy_(torch.from_numpy(values).view(parameter.shape))
    return model.eval()
