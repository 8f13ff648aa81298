"""Bottleneck adapters and LoRA for a T5 of the transformers library.

A bottleneck changes a sub-layer's output y to y + up(gelu(down(y))), before T5's dropout and residual addition (Houlsby
et al. 2019; VIP5 section 3.3). LoRA changes a query or value projection W x to W x + scale up(down(x)) (Hu et
al. 2021).
Trade-off: forward hooks instead of a modified T5 class, so that the backbone's code, parameter names and checkpoints
remain those of the library. A `Route`, which VIP5 sets before each forward pass, provides the family of each row.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor, nn

from features.schema import FAMILIES
from modeling.config.model import AdapterParams


class Adapter(nn.Module):
    """One bottleneck adapter, or one per family.

    Args:
        width: width of the model.
        bottleneck: width of the bottleneck.
        num_routes: 1, or the number of families.
        near_identity: initialise the up-projection with zeros instead of torch's default for Linear.
    """

    def __init__(self, width: int, bottleneck: int, *, num_routes: int, near_identity: bool) -> None:
        super().__init__()
        self.down_weight = nn.Parameter(torch.empty(num_routes, bottleneck, width))
        self.down_bias = nn.Parameter(torch.empty(num_routes, bottleneck))
        self.up_weight = nn.Parameter(torch.empty(num_routes, width, bottleneck))
        self.up_bias = nn.Parameter(torch.empty(num_routes, width))
        for weight, bias in ((self.down_weight, self.down_bias), (self.up_weight, self.up_bias)):
            bound = 1 / math.sqrt(weight.shape[2])  # as nn.Linear
            nn.init.uniform_(weight, -bound, bound)
            nn.init.uniform_(bias, -bound, bound)
        if near_identity:
            nn.init.zeros_(self.up_weight)
            nn.init.zeros_(self.up_bias)

    def forward(self, states: Float[Tensor, "B S D"], families: Int64[Tensor, "#B"]) -> Float[Tensor, "B S D"]:
        """Adapts `states`; `families` selects the adapter of each row, or of all rows if it has one value."""
        if self.down_weight.shape[0] == 1:
            parameters = (self.down_weight, self.down_bias, self.up_weight, self.up_bias)
            # Views, which need no copy in the backward pass.
            down, down_bias, up, up_bias = (p.flatten(0, 1) for p in parameters)
            inner = F.linear(states, down, down_bias)
            return states + F.linear(F.gelu(inner, approximate="tanh"), up, up_bias)
        down, up = self.down_weight[families].mT, self.up_weight[families].mT  # (B, D, H), (B, H, D)
        inner = states @ down + self.down_bias[families, None]  # (B, S, H)
        return states + F.gelu(inner, approximate="tanh") @ up + self.up_bias[families, None]


class LowRank(nn.Module):
    """One low-rank update of a projection, or one per family; zero at initialisation.

    Args:
        width_in: input width of the projection.
        width_out: output width of the projection.
        rank: rank of the update.
        scale: factor of the update.
        num_routes: 1, or the number of families.
    """

    def __init__(self, width_in: int, width_out: int, rank: int, *, scale: float, num_routes: int) -> None:
        super().__init__()
        self.scale = scale
        bound = 1 / math.sqrt(width_in)
        self.down_weight = nn.Parameter(torch.empty(num_routes, rank, width_in).uniform_(-bound, bound))
        self.up_weight = nn.Parameter(torch.zeros(num_routes, width_out, rank))

    def forward(self, inputs: Float[Tensor, "B S D_in"], families: Int64[Tensor, "#B"]) -> Float[Tensor, "B S D_out"]:
        """The update for `inputs`; `families` as in `Adapter`."""
        routes = families if self.down_weight.shape[0] > 1 else torch.zeros_like(families[:1])
        down, up = self.down_weight[routes].mT, self.up_weight[routes].mT
        return inputs @ down @ up * self.scale


class Route:
    """The family of each row, or one for all rows, in the current forward pass."""

    def __init__(self) -> None:
        self.families: Int64[Tensor, "B"] | None = None

    def get(self) -> Int64[Tensor, "B"]:
        """Returns the families.

        Raises:
            RuntimeError: they are not set, because the backbone was called directly.
        """
        if self.families is None:
            raise RuntimeError("the backbone was called directly; call VIP5.encode, VIP5.logits or VIP5.route first")
        return self.families


def sublayers(t5: Any, *, cross_attention: bool = True) -> Iterator[tuple[str, nn.Module]]:
    """Yields name and module of every sub-layer that takes an adapter, encoder first.

    Example (one block each): encoder_0_self_attention, encoder_0_feed_forward, decoder_0_self_attention,
    decoder_0_cross_attention, decoder_0_feed_forward.
    """
    for side in ("encoder", "decoder"):
        for index, block in enumerate(getattr(t5, side).block):
            yield f"{side}_{index}_self_attention", block.layer[0].SelfAttention.o
            if side == "decoder" and cross_attention:
                yield f"{side}_{index}_cross_attention", block.layer[1].EncDecAttention.o
            yield f"{side}_{index}_feed_forward", block.layer[-1].DenseReluDense


def projections(t5: Any, *, cross_attention: bool = True) -> Iterator[tuple[str, nn.Linear]]:
    """Yields name and module of every query and value projection, encoder first.

    Example (one block each): encoder_0_self_attention_q, encoder_0_self_attention_v, decoder_0_self_attention_q, ...
    """
    for side in ("encoder", "decoder"):
        for index, block in enumerate(getattr(t5, side).block):
            attentions = {"self_attention": block.layer[0].SelfAttention}
            if side == "decoder" and cross_attention:
                attentions["cross_attention"] = block.layer[1].EncDecAttention
            for name, attention in attentions.items():
                yield f"{side}_{index}_{name}_q", attention.q
                yield f"{side}_{index}_{name}_v", attention.v


def attach_adapters(t5: Any, params: AdapterParams, route: Route) -> nn.ModuleDict:
    """Creates adapters by sub-layer name and hooks them into `t5`; only the returned ModuleDict holds their weights."""
    width = int(t5.config.d_model)
    narrow = max(1, width // params.reduction)
    num_routes = 1 if params.routing == "single" else len(FAMILIES)
    adapters = nn.ModuleDict()
    if params.kind == "lora":
        for name, linear in projections(t5, cross_attention=params.cross_attention):
            update = LowRank(width, linear.out_features, narrow, scale=params.lora_scale, num_routes=num_routes)
            adapters[name] = update
            linear.register_forward_hook(_beside(update, route))
        return adapters
    for name, module in sublayers(t5, cross_attention=params.cross_attention):
        adapter = Adapter(width, narrow, num_routes=num_routes, near_identity=params.init == "near_identity")
        adapters[name] = adapter
        module.register_forward_hook(_after(adapter, route))
    return adapters


def _after(adapter: Adapter, route: Route) -> Any:
    def add_adapter(
        _module: nn.Module, _inputs: tuple[Any, ...], output: Float[Tensor, "B S D"]
    ) -> Float[Tensor, "B S D"]:
        adapted: Tensor = adapter(output, route.get())
        return adapted

    return add_adapter


def _beside(update: LowRank, route: Route) -> Any:
    def add_update(
        _module: nn.Module, inputs: tuple[Any, ...], output: Float[Tensor, "B S D"]
    ) -> Float[Tensor, "B S D"]:
        added: Tensor = output + update(inputs[0], route.get())
        return added

    return add_update
