"""Dropout, layer norm and attention as autograd functions with hand-written gradients, for a CPU.

Trade-off: fewer passes over memory and fewer random numbers, in exchange for gradients that torch would derive.

Dropout reads 32 random bits as a float32 (16 bits as a bfloat16) and keeps a value if that number exceeds a threshold.
The probability is exact to 2^-32 (2^-16), the comparison is one fused operation (`threshold_backward`), and no mask is
stored, because the backward pass regenerates the bits.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd import Function

CACHED_WEIGHTS = 2**20
_BITS = {torch.float32: 32, torch.bfloat16: 16}
_INFINITY = {torch.float32: 0x7F800000, torch.bfloat16: 0x7F80}  # bit pattern of infinity
_select = torch.ops.aten.threshold_backward  # (values, numbers, threshold): values where numbers > threshold, else 0


class DropoutRng:
    """Generates random bit patterns for dropout, and regenerates them in the backward pass."""

    def __init__(self, seed: int = 0) -> None:
        self._forward, self._replay = np.random.SFC64(seed), np.random.SFC64(seed)

    def seed(self, seed: int) -> None:
        """Restarts the generator with `seed`."""
        self._forward = np.random.SFC64(seed)

    def draw(self, like: Float[Tensor, "*shape"]) -> tuple[Float[Tensor, "*shape"], Any]:
        """Draws patterns with the shape and type of `like`; returns them and the generator state for `replay`."""
        state = self._forward.state
        return self._patterns(self._forward, like), state

    def replay(self, like: Float[Tensor, "*shape"], state: Any) -> Float[Tensor, "*shape"]:
        """Regenerates the patterns that `draw` returned with `state`."""
        self._replay.state = state
        return self._patterns(self._replay, like)

    @staticmethod
    def _patterns(source: np.random.SFC64, like: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        count, each = like.numel(), 64 // _BITS[like.dtype]
        raw = np.asarray(source.random_raw((count + each - 1) // each))
        return torch.from_numpy(raw.view(np.int64)).view(like.dtype)[:count].view(like.shape)


def threshold_of(share: float, dtype: torch.dtype = torch.float32) -> float:
    """The number that `share` of all bit patterns of `dtype`, read as numbers, do not exceed (NaN never exceeds it).

    Example: 0.1 -> about -3e26: a tenth of all patterns are at most this number.
    """
    width, infinity = _BITS[dtype], _INFINITY[dtype]
    patterns = round(share * 2**width)
    below = patterns <= infinity + 1  # from -0.0 down to -infinity
    bits = infinity + 1 - patterns if below else patterns - infinity - 2
    value = float(np.array(bits << (32 - width), np.uint32).view(np.float32))
    return -value if below else value


def _dropped(values: Float[Tensor, "*shape"], drawn: Float[Tensor, "*shape"], share: float) -> Float[Tensor, "*shape"]:
    """`values` where `drawn` exceeds the threshold, else 0; not rescaled."""
    kept: Tensor = _select(values, drawn, threshold_of(share, values.dtype))
    return kept


class DropoutFunction(Function):
    """Dropout with probability `share`."""

    @staticmethod
    def forward(
        ctx: Any, values: Float[Tensor, "*shape"], share: float, dropout_rng: DropoutRng
    ) -> Float[Tensor, "*shape"]:
        drawn, ctx.state = dropout_rng.draw(values)
        ctx.share, ctx.dropout_rng = share, dropout_rng
        return _dropped(values, drawn, share).mul_(1 / (1 - share))

    @staticmethod
    def backward(ctx: Any, *gradients: Float[Tensor, "*shape"]) -> tuple[Float[Tensor, "*shape"], None, None]:
        (gradient,) = gradients
        drawn = ctx.dropout_rng.replay(gradient, ctx.state)
        return _dropped(gradient, drawn, ctx.share).mul_(1 / (1 - ctx.share)), None, None


class ReluDropoutFunction(Function):
    """ReLU followed by dropout."""

    @staticmethod
    def forward(
        ctx: Any, values: Float[Tensor, "*shape"], share: float, dropout_rng: DropoutRng
    ) -> Float[Tensor, "*shape"]:
        output = torch.relu(values)
        if share:
            drawn, _ = dropout_rng.draw(values)
            output = _dropped(output, drawn, share).mul_(1 / (1 - share))
        ctx.share = share
        ctx.save_for_backward(output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Float[Tensor, "*shape"]) -> tuple[Float[Tensor, "*shape"], None, None]:
        (output,) = ctx.saved_tensors  # 0 exactly where ReLU or dropout zeroed the value
        gradient = _select(gradients[0], output, 0.0)
        return gradient.mul_(1 / (1 - ctx.share)) if ctx.share else gradient, None, None


class RootMeanSquare(Function):
    """Root mean square norm with a weight."""

    @staticmethod
    def forward(
        ctx: Any, states: Float[Tensor, "*shape D"], weight: Float[Tensor, "D"], eps: float
    ) -> Float[Tensor, "*shape D"]:
        inverse = states.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
        ctx.save_for_backward(states, weight, inverse)
        return torch.mul(states, inverse).mul_(weight)

    @staticmethod
    def backward(
        ctx: Any, *gradients: Float[Tensor, "*shape D"]
    ) -> tuple[Float[Tensor, "*shape D"] | None, Float[Tensor, "D"] | None, None]:
        states, weight, inverse = ctx.saved_tensors
        width = states.shape[-1]
        product = torch.mul(gradients[0], states).view(-1, width)
        of_states = of_weight = None
        if ctx.needs_input_grad[1]:
            of_weight = inverse.view(-1) @ product
        if ctx.needs_input_grad[0]:
            pull = (product @ weight).view(inverse.shape).mul_(inverse.pow(3)).div_(-width)
            of_states = torch.mul(gradients[0], weight).mul_(inverse).addcmul_(states, pull)
        return of_states, of_weight, None


class AttentionFunction(Function):
    """dropout(softmax(q k^T + bias + mask)) v, a few heads at a time, so that the weights stay in the cache."""

    @staticmethod
    def forward(  # noqa: PLR0917  # autograd functions take positional arguments only
        ctx: Any,
        query: Float[Tensor, "B H Q W"],
        key: Float[Tensor, "B H N W"],
        value: Float[Tensor, "B H N W"],
        bias: Float[Tensor, "1 H Q N"] | None,
        mask: Float[Tensor, "B 1 Q N"] | None,
        share: float,
        dropout_rng: DropoutRng,
    ) -> Float[Tensor, "B Q H W"]:
        rows, heads, length, width = query.shape
        query, key, value = (x.transpose(0, 1).contiguous().flatten(0, 1) for x in (query, key, value))  # (H x B, ...)
        weights = query.new_empty(heads * rows, length, key.shape[1])
        output = torch.empty_like(query)
        masked = 0 if mask is None else int((mask == 0).all(0).all(0).all(0).long().argmin())  # first masked column
        ctx.states = []
        for some, part in _some_heads(heads, rows, weights):
            torch.bmm(query[part], key[part].transpose(1, 2), out=weights[part])
            scores = weights[part].view(-1, rows, length, weights.shape[2])
            if bias is not None:
                scores.add_(bias[0, some, None])
            if mask is not None:
                scores[..., masked:].add_(mask[None, :, 0, :, masked:])
            kept = torch.softmax(weights[part], -1, out=weights[part])
            if share:
                drawn, state = dropout_rng.draw(kept)
                ctx.states.append(state)
                kept = _dropped(kept, drawn, share)
            torch.bmm(kept, value[part], out=output[part])
        if share:
            output.mul_(1 / (1 - share))
        output = output.view(heads, rows, length, width).permute(1, 2, 0, 3).contiguous()
        ctx.share, ctx.dropout_rng, ctx.shape = share, dropout_rng, (heads, rows, length, width)
        ctx.save_for_backward(query, key, value, weights, output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Float[Tensor, "B Q H W"]) -> tuple[Float[Tensor, "..."] | None, ...]:
        query, key, value, weights, output = ctx.saved_tensors
        heads, rows, length, width = ctx.shape
        pull = (gradients[0] * output).sum(-1).permute(2, 0, 1).reshape(heads * rows, length, 1)
        of_output = gradients[0].permute(2, 0, 1, 3).reshape(heads * rows, length, width)
        if ctx.share:
            of_output = of_output.mul(1 / (1 - ctx.share))
        of_query, of_key, of_value = torch.empty_like(query), torch.empty_like(key), torch.empty_like(value)
        of_bias = weights.new_empty(1, heads, *weights.shape[1:]) if ctx.needs_input_grad[3] else None
        for index, (some, part) in enumerate(_some_heads(heads, rows, weights)):
            of_weights = torch.bmm(of_output[part], value[part].transpose(1, 2))
            kept = weights[part]
            if ctx.share:
                drawn = ctx.dropout_rng.replay(kept, ctx.states[index])
                kept, of_weights = _dropped(kept, drawn, ctx.share), _dropped(of_weights, drawn, ctx.share)
            torch.bmm(kept.transpose(1, 2), of_output[part], out=of_value[part])
            of_scores = of_weights.sub_(pull[part]).mul_(weights[part])
            if of_bias is not None:
                torch.sum(of_scores.view(-1, rows, *of_scores.shape[1:]), 1, out=of_bias[0, some])
            torch.bmm(of_scores, key[part], out=of_query[part])
            torch.bmm(of_scores.transpose(1, 2), query[part], out=of_key[part])
        gradients_of_inputs = [x.view(heads, rows, -1, width).transpose(0, 1) for x in (of_query, of_key, of_value)]
        return *gradients_of_inputs, of_bias, None, None, None


def _some_heads(heads: int, rows: int, weights: Float[Tensor, "HB Q N"]) -> Iterator[tuple[slice, slice]]:
    """Slices of heads, and of (heads x rows), with about a million attention weights each."""
    size = max(1, min(heads, CACHED_WEIGHTS // max(1, rows * weights.shape[1] * weights.shape[2])))
    for start in range(0, heads, size):
        stop = min(start + size, heads)
        yield slice(start, stop), slice(start * rows, stop * rows)
