"""Initialises a T5 to predict a recency-weighted mean of the prompt's items.

Reads a T5 with identity initialisation (`t5.new_t5`) and item embeddings; sets two values of every token embedding, the
attention of three kinds of sub-layer and one feed-forward unit.
Method: the last two values of a token embedding are flags for "text" and "item" (negative: "end"). In the first encoder
block, text tokens attend to preceding items, with weights that decay with distance (by the relative position bias), so
that the end of the source holds a recency-weighted mean of its items. The decoder attends to this end, and one unit of
its feed-forward layer predicts "end" after an item. All parameters remain trainable.
Trade-off: the constants are set by hand. With `init: identity`, a T5 did not learn to prefer recent items within 20
minutes of training (docs/decisions/0025).
"""

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from features.errors import ParamsError
from modeling.data.tokenizer import VIP5Tokenizer

DECAY = 0.35  # decay of the log weight per token of distance
_TEXT, _ITEM = (3.0, 0.0), (0.0, 4.0)  # flags, in units of the root mean square of the other values
_END = (4.0, -12.0)  # absolute values: a logit of 12 outweighs 100,000 tokens
_TO_ITEMS, _TO_THE_END = 0.6, -0.5  # key weight of the flag "item", in the encoder and in the decoder
_NOISE = 0.1  # scale of other query and key weights, so that the flags dominate initially
_NOT_AFTER = -8.0  # bias of following tokens
_STOP = 20.0  # norm of the unit's output per unit of the flag "item"
_REACH = 128  # distance from which T5 uses one bucket


@torch.no_grad()
def init_recency(t5: Any, tokens: VIP5Tokenizer) -> None:
    """Sets flags, attention and the end-of-sequence unit of `t5` in place.

    Raises:
        ParamsError: identifiers are plain numbers without tokens of their own.
    """
    if not len(tokens.identifier_ids):
        raise ParamsError(
            "backbone.scratch.init: recency with identifiers without tokens of their own",
            "identity, or an identifiers.scheme other than number", "change one of them",
        )  # fmt: skip
    # The start token and the end of the source carry the mean of the items only; their own values would bias it.
    t5.shared.weight[[tokens.pad_id, tokens.eos_id], :-2] = 0
    _flag(t5.shared.weight, torch.from_numpy(tokens.identifier_ids.astype("int64")), tokens.eos_id)
    attention = t5.encoder.block[0].layer[0].SelfAttention
    _set_attention(attention, t5.config, _TO_ITEMS)
    attention.relative_attention_bias.weight.copy_(_decaying(attention.relative_attention_bias.weight))
    for block in t5.decoder.block:
        _set_attention(block.layer[1].EncDecAttention, t5.config, _TO_THE_END)
    _end_after_items(t5.decoder.block[-1].layer[2].DenseReluDense, t5.shared.weight[tokens.eos_id])


def _flag(table: Float[Tensor, "V D"], items: Int64[Tensor, "I"], eos_id: int) -> None:
    """Sets the flags of text tokens, of `items` and of the end of sequence."""
    text = torch.ones(len(table), dtype=torch.bool)
    text[items] = False
    of_text = table[text, :-2].square().mean().sqrt()
    # Per item, so that long vectors attract no extra attention.
    of_items = table[items, :-2].square().mean(1, keepdim=True).sqrt()
    table[:, -2:] = of_text * torch.tensor(_TEXT)
    table[items, -2:] = of_items * torch.tensor(_ITEM)
    table[eos_id, -2:] = torch.tensor(_END)


def _set_attention(attention: Any, config: Any, sign: float) -> None:
    """Makes text tokens attend to items (negative `sign`: to the end) in every head; flags are not copied."""
    first = torch.arange(config.num_heads) * config.d_kv
    for weight in (attention.q.weight, attention.k.weight):
        weight.mul_(_NOISE)
        weight[first] = 0
    attention.q.weight[first, -2] = 1.0
    attention.k.weight[first, -1] = sign
    torch.nn.init.eye_(attention.v.weight)
    attention.v.weight[:, -2:] = 0
    torch.nn.init.eye_(attention.o.weight)


def _end_after_items(feed_forward: Any, end: Float[Tensor, "D"]) -> None:
    """Makes the first unit respond to the flag "item" with the vector `end`."""
    for name, weight in feed_forward.named_parameters():
        if name.startswith("wi"):  # one matrix, or two if gated
            weight[0] = 0
            weight[0, -1] = 1.0
    feed_forward.wo.weight[:, 0] = _STOP * end / end.norm()


def _decaying(bias: Float[Tensor, "buckets H"]) -> Float[Tensor, "buckets H"]:
    """Bias that decays with the distance to preceding tokens, T5's first half of the buckets."""
    before = len(bias) // 2
    exact = before // 2
    steps = torch.arange(before, dtype=torch.float32)
    further = exact * (_REACH / exact) ** ((steps - exact + 0.5) / (before - exact))
    distance = torch.where(steps < exact, steps, further)
    return torch.cat([-DECAY * distance, torch.full_like(distance, _NOT_AFTER)])[:, None].expand_as(bias)
