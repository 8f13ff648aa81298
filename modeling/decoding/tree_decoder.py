"""T5 inference: the encoder, and a decoder over a tree of prefixes in which each node attends to its ancestors.

Reads a batch, then nodes, each given by a token and its path from the root; returns the decoder states of new nodes.
Beams share the query axis, so that the cross-attention keys and values of a row are stored once for all beams, and
reordering beams moves no cache, because the next nodes name their ancestors.
Trade-off: a node attends to all nodes of its row under a mask, which for a few hundred nodes is cheaper than gathering
a cache per beam. The backbone's modules compute everything except attention, so that adapters and tuned norms apply.
"""

import copy
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64, Shaped
from torch import Tensor

from modeling.data.prompt_dataset import Batch
from modeling.kernels.fused_modules import fused_bias
from modeling.kernels.unpadding import Unpadding
from modeling.models.vip5 import VIP5

NO_NODE = -1


@dataclass
class _Layer:
    """Keys and values of one decoder block."""

    cross_keys: Float[Tensor, "B H S W"]
    cross_values: Float[Tensor, "B H S W"]
    keys: Float[Tensor, "B H N W"]
    values: Float[Tensor, "B H N W"]


class TreeDecoder:
    """An encoded batch and the prefixes decoded so far.

    Args:
        model: the model, in evaluation mode.
        batch: B rows.

    Example: `decode_nodes` with tokens [[0]] and paths [[[0]]] creates the start node of one row; tokens [[7, 9]] and
    paths [[[0, 1], [0, 2]]] then create two beams below it.
    """

    @torch.inference_mode()
    def __init__(self, model: VIP5, batch: Batch) -> None:
        self.model, self.families = model, batch.families
        t5: Any = model.t5
        unpadding = Unpadding.of(batch.attention_mask, batch.families)
        states = encode_unpadded(model, batch, unpadding)
        self._routes = unpadding.families
        full = not batch.is_padded or bool(batch.attention_mask.all())
        self._padding = None if full else batch.attention_mask[:, None, None]
        self._width = int(t5.config.d_kv)
        self.layers = []
        for block in t5.decoder.block:
            cross = block.layer[1].EncDecAttention
            keys, values = (_heads(unpadding.pad(project(states)), self._width) for project in (cross.k, cross.v))
            self.layers.append(_Layer(keys, values, keys[:, :, :0], values[:, :, :0]))

    def reset(self) -> "TreeDecoder":
        """Returns a decoder of the same encoded rows without nodes."""
        emptied = [replace(layer, keys=layer.keys[:, :, :0], values=layer.values[:, :, :0]) for layer in self.layers]
        decoder = copy.copy(self)
        decoder.layers = emptied
        return decoder

    @property
    def num_rows(self) -> int:
        """Number of rows in the batch."""
        return len(self.families)

    @property
    def num_nodes(self) -> int:
        """Number of nodes per row so far."""
        return self.layers[0].keys.shape[2]

    @property
    def device(self) -> torch.device:
        """Device of the batch."""
        return self.families.device

    @torch.inference_mode()
    def decode_nodes(self, tokens: Int64[Tensor, "B N"], paths: Int64[Tensor, "B N L"]) -> Float[Tensor, "B N D"]:
        """Adds N nodes to every row and returns their decoder states, scaled for the output layer.

        Args:
            tokens: last token of each new prefix; new nodes are numbered from `num_nodes`.
            paths: nodes from the start to the new node itself, padded with -1.
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

    def _self_attention(
        self, part: Any, layer: _Layer, hidden: Float[Tensor, "B N D"], bias: Float[Tensor, "B H N M"]
    ) -> Float[Tensor, "B N D"]:
        attention, normed = part.SelfAttention, part.layer_norm(hidden)
        query, keys, values = (
            _heads(project(normed), self._width) for project in (attention.q, attention.k, attention.v)
        )
        layer.keys, layer.values = torch.cat([layer.keys, keys], 2), torch.cat([layer.values, values], 2)
        output: Tensor = attention.o(_mixed(query, layer.keys, layer.values, bias))
        return output

    def _cross_attention(self, part: Any, layer: _Layer, hidden: Float[Tensor, "B N D"]) -> Float[Tensor, "B N D"]:
        attention = part.EncDecAttention
        query = _heads(attention.q(part.layer_norm(hidden)), self._width)
        output: Tensor = attention.o(_mixed(query, layer.cross_keys, layer.cross_values, self._padding))
        return output

    def _bias(self, paths: Int64[Tensor, "B N L"], num_nodes: int) -> Float[Tensor, "B H N {num_nodes}"]:
        """T5's relative position bias for ancestors, minus infinity for other nodes."""
        length = paths.shape[2]
        attention: Any = self.model.t5.decoder.block[0].layer[0].SelfAttention
        by_distance = attention.compute_bias(1, length, device=paths.device, past_seen_tokens=length - 1)
        by_distance = by_distance[0, :, 0].flip(1)  # (H, L): distance 0 first
        depth = (paths != NO_NODE).sum(2, keepdim=True) - 1
        distance = (depth - torch.arange(length, device=paths.device)).clamp(min=0)  # (B, N, L)
        values = by_distance[:, distance].movedim(0, 1)  # (B, H, N, L)
        shape = (*values.shape[:3], num_nodes + 1)  # the last column receives the padding of the paths
        columns = torch.where(paths == NO_NODE, num_nodes, paths)[:, None].expand_as(values)
        bias = torch.full(shape, -torch.inf, device=paths.device, dtype=values.dtype).scatter(3, columns, values)
        return bias[..., :num_nodes]


def encode_unpadded(model: VIP5, batch: Batch, unpadding: Unpadding) -> Float[Tensor, "_ N D"]:
    """Encoder states as from `model.encode`, unpadded; all layers share one sum of position bias and padding mask."""
    model.route(unpadding.families)
    encoder: Any = model.t5.encoder
    hidden, width = unpadding.unpad(model.embed(batch)), int(model.t5.config.d_kv)
    bias = (
        encoder.block[0].layer[0].SelfAttention.compute_bias(unpadding.length, unpadding.length, device=hidden.device)
    )
    bias = bias.to(hidden)
    if batch.is_padded and not bool(batch.attention_mask.all()):
        bias = bias.masked_fill(~batch.attention_mask[:, None, None], -torch.inf)  # (B, H, S, S)
    for index, block in enumerate(encoder.block):
        first, last = block.layer
        attention, normed = first.SelfAttention, first.layer_norm(hidden)
        query, keys, values = (
            _heads(unpadding.pad(project(normed)), width) for project in (attention.q, attention.k, attention.v)
        )
        if index == 0 and query.is_cuda:
            bias = fused_bias([bias], query, keys.shape[2])
        hidden += attention.o(unpadding.unpad(_mixed(query, keys, values, bias)))
        hidden += last.DenseReluDense(last.layer_norm(hidden))
    states: Tensor = encoder.final_layer_norm(hidden)
    return states


def _heads(states: Float[Tensor, "B N _"], width: int) -> Float[Tensor, "B H N {width}"]:
    """Splits the last axis into heads of `width`."""
    return states.reshape(*states.shape[:2], -1, width).transpose(1, 2)


def _mixed(
    query: Float[Tensor, "B H N W"],
    keys: Float[Tensor, "B H M W"],
    values: Float[Tensor, "B H M W"],
    mask: Shaped[Tensor, "#B #H #N M"] | None,
) -> Float[Tensor, "B N H*W"]:
    """Attention without scaling, as in T5."""
    if mask is not None and mask.dtype != torch.bool:
        mask = mask.to(query.dtype)  # under autocast, states are float32 and the query is bfloat16
    return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=1.0).transpose(1, 2).flatten(2)


def start(decoder: TreeDecoder, start_id: int) -> tuple[Float[Tensor, "B 1 D"], Int64[Tensor, "B 1 1"]]:
    """Decodes the start node of every row; returns its states and its path."""
    first = torch.full((decoder.num_rows, 1), start_id, dtype=torch.long, device=decoder.device)
    paths = torch.zeros_like(first)[..., None]
    return decoder.decode_nodes(first, paths), paths


def gather_rows(values: Shaped[Tensor, "B N L"], index: Int64[Tensor, "B K"]) -> Shaped[Tensor, "B K L"]:
    """Gathers `values` along the second axis, such as the prefixes of the chosen beams."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))
