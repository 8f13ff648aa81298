"""Fused leaf modules for T5: dropout, layer norm, ReLU and attention.

Replaces leaf modules of the T5 of the transformers library; parameters, their names and the library's forward pass
remain.
Trade-off: hand-written gradients (`autograd_functions`) on a CPU, in exchange for fewer passes over memory. On a GPU
every module calls torch's fused function. Under autocast, norms return the low-precision type, so that the following
matrix products need no conversions.
"""

from collections.abc import Sequence
from types import MethodType
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from modeling.kernels.autograd_functions import (
    AttentionFunction,
    DropoutFunction,
    DropoutRng,
    ReluDropoutFunction,
    RootMeanSquare,
)

ATTENTION = "vip5_fused"  # key in the library's registry of attention functions


def _has_fused_kernel(values: Float[Tensor, "..."]) -> bool:
    return values.device.type == "cpu" and values.dtype in {torch.float32, torch.bfloat16}


class FusedDropout(nn.Module):
    """Dropout with probability `share` in training."""

    def __init__(self, share: float, dropout_rng: DropoutRng) -> None:
        super().__init__()
        self.share, self.dropout_rng = share, dropout_rng

    def forward(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Applies dropout to `values`; kept values are divided by 1 - share."""
        if not self.training or not self.share:
            return values
        if not _has_fused_kernel(values):
            return F.dropout(values, self.share)
        kept: Tensor = DropoutFunction.apply(values, self.share, self.dropout_rng)
        return kept


class FusedReluDropout(FusedDropout):
    """ReLU followed by dropout."""

    def forward(self, values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Applies ReLU and dropout to `values`."""
        share = self.share if self.training else 0.0
        if not _has_fused_kernel(values):
            return F.dropout(F.relu(values), share)
        kept: Tensor = ReluDropoutFunction.apply(values, share, self.dropout_rng)
        return kept


class FusedRMSNorm(nn.Module):
    """T5's layer norm, sharing the weight of the module it replaces."""

    def __init__(self, weight: nn.Parameter, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = weight, eps

    def forward(self, states: Float[Tensor, "*shape D"]) -> Float[Tensor, "*shape D"]:
        """Divides `states` by their root mean square and multiplies by the weight."""
        kind, wide = states.device.type, states.to(torch.promote_types(states.dtype, self.weight.dtype))
        if _has_fused_kernel(wide):
            normed: Tensor = RootMeanSquare.apply(wide, self.weight, self.eps)
        else:
            normed = F.rms_norm(wide, self.weight.shape, self.weight, self.eps)
        return normed.to(torch.get_autocast_dtype(kind)) if torch.is_autocast_enabled(kind) else normed


class FusedCrossAttention(nn.Module):
    """T5's cross-attention without projected encoder states, for short targets.

    q (W_k h)^T = (q W_k) h^T, and weights (W_v h) = (weights h) W_v: projecting queries and results instead of encoder
    states saves an eighth of a step with three target tokens and hundreds of source tokens.

    Args:
        reference: the library's module; its projections are shared, and it handles long targets and cached decoding.
        dropout_rng: generator for dropout.
    """

    def __init__(self, reference: Any, dropout_rng: DropoutRng) -> None:
        super().__init__()
        self.q, self.k, self.v, self.o = reference.q, reference.k, reference.v, reference.o
        self.drop = FusedDropout(reference.dropout, dropout_rng)
        self.heads, self.width = reference.n_heads, reference.key_value_proj_dim
        self._reference = (reference,)  # in a tuple, so that its parameters are not registered twice

    def forward(
        self,
        hidden_states: Float[Tensor, "B T D"],
        mask: Shaped[Tensor, "#B #H #T S"] | None = None,
        key_value_states: Float[Tensor, "B S D"] | None = None,
        position_bias: Float[Tensor, "#B H T S"] | None = None,
        past_key_values: Any = None,
        **more: Any,
    ) -> tuple[Float[Tensor, "B T D"], Float[Tensor, "#B H T S"] | None, None]:
        """Attends from decoder states to encoder states."""
        rows, length, _ = hidden_states.shape
        short = 2 * length * self.heads <= self.k.weight.shape[1] and past_key_values is None
        hookless = not any(projection._forward_hooks for projection in (self.k, self.v))  # noqa: SLF001  # LoRA
        if (
            not short
            or not hookless
            or past_key_values is not None
            or key_value_states is None
            or not _has_fused_kernel(hidden_states)
        ):
            self._reference[0].train(self.training)
            output_and_bias: tuple[Float[Tensor, "B T D"], Float[Tensor, "#B H T S"] | None, None] = self._reference[0](
                hidden_states, mask=mask, key_value_states=key_value_states, position_bias=position_bias,
                past_key_values=past_key_values, **more,
            )  # fmt: skip
            return output_and_bias
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


def _feed_forward(module: Any, states: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
    """The library's sub-layer without conversions to the type of the weight and back."""
    output: Tensor = module.wo(module.dropout(module.act(module.wi(states))))
    return output


def use_fused_modules(t5: Any) -> DropoutRng:
    """Replaces leaf modules of `t5` by fused ones and returns the generator of its dropout on a CPU."""
    dropout_rng = DropoutRng()
    for module in list(t5.modules()):
        if type(module).__name__ == "T5DenseActDense" and type(module.act) is nn.ReLU:
            module.act, module.dropout = FusedReluDropout(module.dropout.p, dropout_rng), nn.Identity()
            module.forward = MethodType(_feed_forward, module)
        for name, child in list(module.named_children()):
            if type(child) is nn.Dropout:
                setattr(module, name, FusedDropout(child.p, dropout_rng))
            elif type(child).__name__ == "T5LayerNorm":
                setattr(module, name, FusedRMSNorm(child.weight, child.variance_epsilon))
            elif name == "EncDecAttention" and type(child).__name__ == "T5Attention":
                setattr(module, name, FusedCrossAttention(child, dropout_rng))
        if hasattr(module, "relative_attention_num_buckets"):
            module.dropout_rng = dropout_rng
    from transformers.masking_utils import AttentionMaskInterface, eager_mask
    from transformers.modeling_utils import AttentionInterface

    AttentionInterface.register(ATTENTION, fused_attention)
    AttentionMaskInterface.register(ATTENTION, eager_mask)
    t5.set_attn_implementation(ATTENTION)
    return dropout_rng


def fused_attention(  # noqa: PLR0917  # the registry's signature
    module: Any,
    query: Float[Tensor, "B H Q W"],
    key: Float[Tensor, "B H N W"],
    value: Float[Tensor, "B H N W"],
    attention_mask: Shaped[Tensor, "#B #H #Q N"] | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    position_bias: Float[Tensor, "#B #H Q N"] | None = None,
    **_: Any,
) -> tuple[Float[Tensor, "B Q H W"], None]:
    """T5's attention for the library's registry of attention functions."""
    if scaling != 1.0:
        raise ValueError(f"attention with scaling {scaling}; T5 uses 1.0")
    if _has_fused_kernel(query):
        output: Tensor = AttentionFunction.apply(
            query, key, value, position_bias, attention_mask, dropout, module.dropout_rng
        )
        return output, None
    bias = fused_bias([term for term in (position_bias, attention_mask) if term is not None], query, key.shape[2])
    output = F.scaled_dot_product_attention(query, key, value, attn_mask=bias, dropout_p=dropout, scale=1.0)
    return output.transpose(1, 2).contiguous(), None


def fused_bias(
    terms: Sequence[Shaped[Tensor, "#B #H #Q {columns}"]], query: Float[Tensor, "B H Q W"], columns: int
) -> Float[Tensor, "B H Q {columns}"] | None:
    """The sum of `terms` in the memory layout of fused attention on a GPU: rows aligned to multiples of eight.

    Args:
        terms: summands; a term that all rows of the batch share is stored once.
        query: determines shape and type.
        columns: number of keys.
    """
    if not terms:
        return None
    padded = [F.pad(term.to(query.dtype), (0, -columns % 8)).contiguous() for term in terms]
    whole = sum(padded[1:], padded[0])
    return whole[..., :columns].expand(*query.shape[:3], columns)
