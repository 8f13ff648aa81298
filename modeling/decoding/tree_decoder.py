"""T5 for inference: its encoder, and its decoder over a tree of prefixes, each a position that sees its ancestors.

Enters: a batch, then nodes, each a token and the path of nodes that leads to it. Leaves: the decoder states of the
new nodes. Beams stand on the query axis, so that the cross-attention keys and values of a row exist once, however many
beams it has, and a beam that changes its place moves no cache: its next node only names other ancestors.
Trade-off: a node attends to all nodes of its row under a mask, which for some hundred nodes is cheaper than a gathered
cache a beam. The backbone's own modules compute everything but attention, so that adapters and tuned norms take part.
"""

import copy
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from modeling.kernels.fused_modules import fused_bias
from modeling.kernels.unpadding import Packing

if TYPE_CHECKING:
    from modeling.data.prompt_dataset import Batch
    from modeling.models.vip5 import VIP5

NO_NODE = -1


@dataclass
class _Layer:
    """Keys and values of one decoder block, (B, H, positions, width of a head) each."""

    cross_keys: Tensor
    cross_values: Tensor
    keys: Tensor
    values: Tensor


class TreeDecoder:
    """A batch, encoded once, and the prefixes decoded so far.

    Args:
        model: in eval mode.
        batch: B rows.

    Example: `extend` with tokens [[0]] and paths [[[0]]] makes the start node of one row; tokens [[7, 9]] and paths
    [[[0, 1], [0, 2]]] then make two beams below it.
    """

    @torch.inference_mode()
    def __init__(self, model: "VIP5", batch: "Batch") -> None:
        self.model, self.families = model, batch.families
        t5: Any = model.t5
        packing = Packing.of(batch.attention_mask, batch.families)
        states = encode_packed(model, batch, packing)
        self._routes = packing.families
        full = not batch.is_padded or bool(batch.attention_mask.all())
        self._padding = None if full else batch.attention_mask[:, None, None]
        self._width = int(t5.config.d_kv)
        self.layers = []
        for block in t5.decoder.block:
            cross = block.layer[1].EncDecAttention
            keys, values = (_heads(packing.padded(project(states)), self._width) for project in (cross.k, cross.v))
            self.layers.append(_Layer(keys, values, keys[:, :, :0], values[:, :, :0]))

    def fresh(self) -> "TreeDecoder":
        """The same encoded rows without any nodes."""
        emptied = [replace(layer, keys=layer.keys[:, :, :0], values=layer.values[:, :, :0]) for layer in self.layers]
        other = copy.copy(self)
        other.layers = emptied
        return other

    @property
    def num_rows(self) -> int:
        """Rows of the batch."""
        return len(self.families)

    @property
    def num_nodes(self) -> int:
        """Nodes of every row so far."""
        return self.layers[0].keys.shape[2]

    @property
    def device(self) -> torch.device:
        """Where the batch lies."""
        return self.families.device

    @torch.inference_mode()
    def extend(self, tokens: Tensor, paths: Tensor) -> Tensor:
        """Adds N nodes to every row and returns their decoder states (B, N, D), scaled as the output layer wants them.

        Args:
            tokens: (B, N) int64, the last token of each new prefix; the new nodes are numbered from `num_nodes` on.
            paths: (B, N, L) int64, the nodes from the start to the new node itself, filled up with -1.
        """
        self.model.route(self._routes)
        t5: Any = self.model.t5
        bias = self._bias(paths, self.num_nodes + tokens.shape[1])
        hidden = t5.decoder.embed_tokens(tokens)
        for block, layer in zip(t5.decoder.block, self.layers, strict=True):
            hidden += self._self_attention(block.layer[0], layer, hidden, bias)
            hidden += self._cross_attention(block.layer[1], layer, hidden)
            last = block.layer[2]
            hidden += last.DenseReluDense(last.layer_norm(hidden))
        hidden = t5.decoder.final_layer_norm(hidden)
        scaled: Tensor = hidden * t5.model_dim**-0.5 if t5.config.scale_decoder_outputs else hidden
        return scaled

    def _self_attention(self, part: Any, layer: _Layer, hidden: Tensor, bias: Tensor) -> Tensor:
        attention, normed = part.SelfAttention, part.layer_norm(hidden)
        query, keys, values = (
            _heads(project(normed), self._width) for project in (attention.q, attention.k, attention.v)
        )
        layer.keys, layer.values = torch.cat([layer.keys, keys], 2), torch.cat([layer.values, values], 2)
        joined: Tensor = attention.o(_mixed(query, layer.keys, layer.values, bias))
        return joined

    def _cross_attention(self, part: Any, layer: _Layer, hidden: Tensor) -> Tensor:
        attention = part.EncDecAttention
        query = _heads(attention.q(part.layer_norm(hidden)), self._width)
        joined: Tensor = attention.o(_mixed(query, layer.cross_keys, layer.cross_values, self._padding))
        return joined

    def _bias(self, paths: Tensor, num_nodes: int) -> Tensor:
        """(B, H, N, num_nodes): T5's relative position bias where a node is an ancestor, minus infinity elsewhere."""
        length = paths.shape[2]
        attention: Any = self.model.t5.decoder.block[0].layer[0].SelfAttention
        by_distance = attention.compute_bias(1, length, device=paths.device, past_seen_tokens=length - 1)
        by_distance = by_distance[0, :, 0].flip(1)  # (H, L): distance 0 first
        depth = (paths != NO_NODE).sum(2, keepdim=True) - 1
        distance = (depth - torch.arange(length, device=paths.device)).clamp(min=0)  # (B, N, L)
        values = by_distance[:, distance].movedim(0, 1)  # (B, H, N, L)
        shape = (*values.shape[:3], num_nodes + 1)  # the last column takes what fills the paths up
        places = torch.where(paths == NO_NODE, num_nodes, paths)[:, None].expand_as(values)
        bias = torch.full(shape, -torch.inf, device=paths.device, dtype=values.dtype).scatter(3, places, values)
        return bias[..., :num_nodes]


def encode_packed(model: "VIP5", batch: "Batch", packing: Packing) -> Tensor:
    """Encoder states as `model.encode` gives them, packed; position bias and padding are joined once for all layers."""
    model.route(packing.families)
    encoder: Any = model.t5.encoder
    hidden, width = packing.packed(model.embed(batch)), int(model.t5.config.d_kv)
    bias = encoder.block[0].layer[0].SelfAttention.compute_bias(packing.length, packing.length, device=hidden.device)
    bias = bias.to(hidden)
    if batch.is_padded and not bool(batch.attention_mask.all()):
        bias = bias.masked_fill(~batch.attention_mask[:, None, None], -torch.inf)  # (B, H, S, S)
    for index, block in enumerate(encoder.block):
        first, last = block.layer
        attention, normed = first.SelfAttention, first.layer_norm(hidden)
        query, keys, values = (
            _heads(packing.padded(project(normed)), width) for project in (attention.q, attention.k, attention.v)
        )
        if index == 0 and query.is_cuda:
            bias = fused_bias([bias], query, keys.shape[2])
        hidden += attention.o(packing.packed(_mixed(query, keys, values, bias)))
        hidden += last.DenseReluDense(last.layer_norm(hidden))
    states: Tensor = encoder.final_layer_norm(hidden)
    return states


def _heads(states: Tensor, width: int) -> Tensor:
    """(B, N, H x W) to (B, H, N, W)."""
    return states.reshape(*states.shape[:2], -1, width).transpose(1, 2)


def _mixed(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """(B, N, H x W) what attention without T5's missing scale finds."""
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(query.dtype)  # under autocast the states are float32 and the query is not
    return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=1.0).transpose(1, 2).flatten(2)


def started(decoder: TreeDecoder, start_id: int) -> tuple[Tensor, Tensor]:
    """The start node of every row: its states (B, 1, D) and its path (B, 1, 1)."""
    first = torch.full((decoder.num_rows, 1), start_id, dtype=torch.long, device=decoder.device)
    paths = torch.zeros_like(first)[..., None]
    return decoder.extend(first, paths), paths
