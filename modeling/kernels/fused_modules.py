"""Quicker leaf parts for a stock T5: dropout, layer norm, ReLU and attention.

Enters: a VIP5 whose T5 is as the library made it. Leaves: the same model with some leaf modules replaced, their
parameters and names kept; T5's own classes still run the forward pass.
Trade-off: gradients written out by hand (quick_functions) for a CPU, in exchange for passes over memory. On a GPU every
part is torch's own fused function. Under autocast a norm already gives the narrow type, so that the products behind it
need not each convert what they read.
"""

from collections.abc import Sequence
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from modeling.kernels.autograd_functions import (
    AttentionFunction,
    Bits,
    DropoutFunction,
    ReluDropoutFunction,
    RootMeanSquare,
)

ATTENTION = "vip5_quick"  # in the library's registry of attention functions


def _is_quick(values: Tensor) -> bool:
    return values.device.type == "cpu" and values.dtype in {torch.float32, torch.bfloat16}


class QuickDropout(nn.Module):
    """Dropout of a `share` of the values in training."""

    def __init__(self, share: float, bits: Bits) -> None:
        super().__init__()
        self.share, self.bits = share, bits

    def forward(self, values: Tensor) -> Tensor:
        """`values` of any shape, those that are kept divided by 1 - share."""
        if not self.training or not self.share:
            return values
        if not _is_quick(values):
            return F.dropout(values, self.share)
        kept: Tensor = DropoutFunction.apply(values, self.share, self.bits)
        return kept


class ReluDropout(QuickDropout):
    """ReLU and the dropout that follows it."""

    def forward(self, values: Tensor) -> Tensor:
        """`values` of any shape."""
        share = self.share if self.training else 0.0
        if not _is_quick(values):
            return F.dropout(F.relu(values), share)
        kept: Tensor = ReluDropoutFunction.apply(values, share, self.bits)
        return kept


class QuickNorm(nn.Module):
    """T5's layer norm with another's weight."""

    def __init__(self, weight: nn.Parameter, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = weight, eps

    def forward(self, states: Tensor) -> Tensor:
        """`states` (..., D), each divided by its root mean square, times the weight."""
        kind, wide = states.device.type, states.to(torch.promote_types(states.dtype, self.weight.dtype))
        if _is_quick(wide):
            normed: Tensor = RootMeanSquare.apply(wide, self.weight, self.eps)
        else:
            normed = F.rms_norm(wide, self.weight.shape, self.weight, self.eps)
        return normed.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else normed


class QuickCrossAttention(nn.Module):
    """T5's attention to the encoder, brought to the encoder's states where the queries are few.

    q (W_k h)^T = (q W_k) h^T, and weights (W_v h) = (weights h) W_v: no state is projected, which saves an eighth of a
    step where a target has three tokens and a source hundreds.

    Args:
        stock: the library's module, whose projections are used; long targets and cached decoding go through it.
        bits: for dropout.
    """

    def __init__(self, stock: Any, bits: Bits) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = stock.q, stock.k, stock.v, stock.o
        self.drop = QuickDropout(stock.dropout, bits)
        self.heads, self.width = stock.n_heads, stock.key_value_proj_dim
        self._stock = (stock,)  # in a tuple, so that its parameters have one name each

    def forward(
        self, hidden_states: Tensor, mask: Tensor | None = None, key_value_states: Tensor | None = None,
        position_bias: Tensor | None = None, past_key_values: Any = None, **more: Any,
    ) -> tuple[Tensor, Tensor | None, None]:  # fmt: skip
        """As the library's: states (B, T, D) of the decoder and (B, S, D) of the encoder to (B, T, D)."""
        rows, length, _ = hidden_states.shape
        few = 2 * length * self.heads <= self.k.weight.shape[1] and past_key_values is None
        plain = not any(projection._forward_hooks for projection in (self.k, self.v))  # noqa: SLF001  # LoRA
        if (
            not few
            or not plain
            or past_key_values is not None
            or key_value_states is None
            or not _is_quick(hidden_states)
        ):
            self._stock[0].train(self.training)
            found: tuple[Tensor, Tensor | None, None] = self._stock[0](
                hidden_states, mask=mask, key_value_states=key_value_states, position_bias=position_bias,
                past_key_values=past_key_values, **more,
            )  # fmt: skip
            return found
        heads, width = self.heads, self.width
        query = self.q(hidden_states).view(-1, heads, width).transpose(0, 1)  # (H, B x T, d)
        query = torch.bmm(query, self.k.weight.view(heads, width, -1))  # (H, B x T, D)
        query = query.view(heads, rows, length, -1).transpose(0, 1).reshape(rows, heads * length, -1)
        scores = torch.bmm(query, key_value_states.transpose(1, 2)).view(rows, heads, length, -1)
        weights = self.drop((scores if mask is None else scores + mask).softmax(-1))
        mixed = torch.bmm(weights.view(rows, heads * length, -1), key_value_states)
        mixed = mixed.view(rows, heads, length, -1).transpose(0, 1).reshape(heads, rows * length, -1)
        value = self.v.weight.view(heads, width, -1).transpose(1, 2)  # (H, D, d)
        output = torch.bmm(mixed, value).view(heads, rows, length, width).permute(1, 2, 0, 3)
        return self.o(output.reshape(rows, length, heads * width)), position_bias, None


def _feed_forward(module: Any, states: Tensor) -> Tensor:
    """The library's sub-layer without its conversion to the type of the frozen weight and back."""
    output: Tensor = module.wo(module.dropout(module.act(module.wi(states))))
    return output


def quicken(t5: Any) -> Bits:
    """Puts the quick parts into a stock T5 and returns the source of all its dropout on a CPU."""
    bits = Bits()
    for module in list(t5.modules()):
        if type(module).__name__ == "T5DenseActDense" and type(module.act) is nn.ReLU:
            module.act, module.dropout = ReluDropout(module.dropout.p, bits), nn.Identity()
            module.forward = MethodType(_feed_forward, module)
        for name, child in list(module.named_children()):
            if type(child) is nn.Dropout:
                setattr(module, name, QuickDropout(child.p, bits))
            elif type(child).__name__ == "T5LayerNorm":
                setattr(module, name, QuickNorm(child.weight, child.variance_epsilon))
            elif name == "EncDecAttention" and type(child).__name__ == "T5Attention":
                setattr(module, name, QuickCrossAttention(child, bits))
        if hasattr(module, "relative_attention_num_buckets"):
            module.bits = bits
    from transformers.masking_utils import AttentionMaskInterface, eager_mask
    from transformers.modeling_utils import AttentionInterface

    AttentionInterface.register(ATTENTION, quick_attention)
    AttentionMaskInterface.register(ATTENTION, eager_mask)
    t5.set_attn_implementation(ATTENTION)
    return bits


def quick_attention(  # noqa: PLR0917  # the registry's signature
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, dropout: float = 0.0,
    scaling: float | None = None, position_bias: Tensor | None = None, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """T5's attention for the library's registry: states (B, H, Q, d), (B, H, K, d) to (B, Q, H, d)."""
    if scaling != 1.0:
        raise ValueError(f"attention scaled by {scaling}, which T5's is not")
    if _is_quick(query):
        output: Tensor = AttentionFunction.apply(query, key, value, position_bias, attention_mask, dropout, module.bits)
        return output, None
    bias = fused_bias([term for term in (position_bias, attention_mask) if term is not None], query, key.shape[2])
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout, scale=1.0)
    return output.transpose(1, 2).contiguous(), None


def fused_bias(terms: Sequence[Tensor], query: Tensor, columns: int) -> Tensor | None:
    """The sum of `terms` as fused attention on a GPU takes it: row by row, a row at every multiple of eight numbers.

    Args:
        terms: (B or 1, H or 1, Q, K) each; one that is the same for all rows of the batch stays one in memory.
        query: (B, H, Q, d): says shape and type.
        columns: K.
    """
    if not terms:
        return None
    padded = [F.pad(term.to(query.dtype), (0, -columns % 8)).contiguous() for term in terms]
    whole = sum(padded[1:], padded[0])
    return whole[..., :columns].expand(*query.shape[:3], columns)
