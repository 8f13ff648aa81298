"""A T5 from nothing that starts by answering with what a prompt names last, newest items first in weight.

Enters: a T5 whose sub-layers pass through (`backbone.new_t5`), with its item vectors set, and the tokens. Leaves: the
same T5 with two numbers of every token vector, the attention of three kinds of sub-layer and one unit set.
How: the last two numbers of a token vector say "text" and "item" (below 0: "end"). In the first encoder block a text
token attends to the items before it, the nearer the more (by the relative position bias), so that the end of the source
holds a decayed mean of its items. The decoder attends to that end, and one unit of its feed-forward says "end" behind
an item that has been answered. Nothing is frozen; training may undo all of it.
Trade-off: constants set by hand. A T5 knows distance, not recency, and from the plain mean that `pass_through`
gives it had not learned in twenty minutes to prefer the last purchases (docs/decisions/0025).
"""

from typing import Any

import torch
from torch import Tensor

from features.errors import ParamsError
from modeling.data.tokenizer import Tokens

DECAY = 0.35  # of the logarithm of the weight, a token of distance
_TEXT, _ITEM = (3.0, 0.0), (0.0, 4.0)  # flags, in root mean squares of a token's other numbers
_END = (4.0, -12.0)  # as they are: a logit of twelve outweighs a hundred thousand tokens
_TO_ITEMS, _TO_THE_END = 0.6, -0.5  # what keys make of the flag "item", in the encoder and in the decoder
_NOISE = 0.1  # of queries and keys, so that the flags decide at first
_NOT_AFTER = -8.0  # bias of tokens that follow
_STOP = 20.0  # length of what follows the flag "item" in the decoder, for each unit of the flag
_REACH = 128  # tokens from which on all distances share a bucket, T5's own


@torch.no_grad()
def start_recent(t5: Any, tokens: Tokens) -> None:
    """Sets flags and attention.

    Raises:
        ParamsError: identifiers are written as plain numbers, so no token says that it is an item.
    """
    if not len(tokens.identifier_ids):
        raise ParamsError(
            "backbone.scratch.start: recent where identifiers have no tokens of their own",
            "pass_through, or another identifiers.scheme than number", "change one of them",
        )  # fmt: skip
    _flag(t5.shared.weight, torch.from_numpy(tokens.identifier_ids.astype("int64")), tokens.eos_id)
    attention = t5.encoder.block[0].layer[0].SelfAttention
    _look_for(attention, t5.config, _TO_ITEMS)
    attention.relative_attention_bias.weight.copy_(_decaying(attention.relative_attention_bias.weight))
    for block in t5.decoder.block:
        _look_for(block.layer[1].EncDecAttention, t5.config, _TO_THE_END)
    _end_after_items(t5.decoder.block[-1].layer[2].DenseReluDense, t5.shared.weight[tokens.eos_id])


def _flag(table: Tensor, items: Tensor, eos_id: int) -> None:
    """The last two numbers of text tokens, of `items` and of the end of sequence."""
    text = torch.ones(len(table), dtype=torch.bool)
    text[items] = False
    of_text = table[text, :-2].square().mean().sqrt()
    of_items = table[items, :-2].square().mean(1, keepdim=True).sqrt()  # each its own: long ones attract no more
    table[:, -2:] = of_text * torch.tensor(_TEXT)
    table[items, -2:] = of_items * torch.tensor(_ITEM)
    table[eos_id, -2:] = torch.tensor(_END)


def _look_for(attention: Any, config: Any, sign: float) -> None:
    """Queries of text tokens look for items (below 0: for the end) in every head; values pass, but for the flags."""
    first = torch.arange(config.num_heads) * config.d_kv
    for weight in (attention.q.weight, attention.k.weight):
        weight.mul_(_NOISE)
        weight[first] = 0
    attention.q.weight[first, -2] = 1.0
    attention.k.weight[first, -1] = sign
    torch.nn.init.eye_(attention.v.weight)
    attention.v.weight[:, -2:] = 0
    torch.nn.init.eye_(attention.o.weight)


def _end_after_items(feed_forward: Any, end: Tensor) -> None:
    """The first unit answers to the flag "item" with the vector `end`."""
    for name, weight in feed_forward.named_parameters():
        if name.startswith("wi"):  # one, or two where it is gated
            weight[0] = 0
            weight[0, -1] = 1.0
    feed_forward.wo.weight[:, 0] = _STOP * end / end.norm()


def _decaying(bias: Tensor) -> Tensor:
    """(buckets, heads): the further before a token, the less; T5's first half of the buckets lies before."""
    before = len(bias) // 2
    exact = before // 2
    steps = torch.arange(before, dtype=torch.float32)
    further = exact * (_REACH / exact) ** ((steps - exact + 0.5) / (before - exact))
    distance = torch.where(steps < exact, steps, further)
    return torch.cat([-DECAY * distance, torch.full_like(distance, _NOT_AFTER)])[:, None].expand_as(bias)
