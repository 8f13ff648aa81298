"""Constrained beam search and exact scoring of candidates.

Reads a model, a batch, a prefix tree of item identifiers and the items allowed in each row; returns item ids with their
log-probabilities, best first. Each row is encoded once and all beams share its first step. A catalogue of
one-token identifiers is ranked exactly in that step; candidates are scored in one pass over the tree of their prefixes.
Trade-off: logits of the whole vocabulary are computed for every prefix, although the tree allows few tokens, because
a log-probability is normalised over the vocabulary.

A score is the sum of the log-probabilities of the identifier's tokens under the whole vocabulary, including </s> if the
identifier is a prefix of another (see `prefix_tree`). These events exclude each other, so the probabilities of a
catalogue sum to at most 1.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Float32, Int, Int64
from torch import Tensor

from modeling.data.prompt_dataset import Batch
from modeling.decoding.prefix_tree import ROOT, PrefixTree, prefixes_of
from modeling.decoding.tree_decoder import TreeDecoder, start
from modeling.models.vip5 import VIP5

START_ID = 0  # T5 starts every target with its padding token
PAD_ID = 0
_BLOCK = 1024  # tokens whose logits are computed at a time on a CPU, so that logits and weights stay in its cache
_BYTES_GPU = 2**30  # memory of the logits computed at a time on a GPU
_DEAD = -torch.inf


@dataclass(frozen=True)
class Ranked:
    """The best items of every row."""

    items: Int64[np.ndarray, "B K"]
    """Item ids, best first, padded with 0."""
    scores: Float32[np.ndarray, "B K"]
    """Log-probabilities in nats, padded with minus infinity."""


def token_log_probs(
    output: Any, states: Float[Tensor, "N D"], owner: Int64[Tensor, "E"], token: Int64[Tensor, "E"]
) -> Float32[Tensor, "E"]:
    """Log-probabilities, under the whole vocabulary, of the allowed next tokens of prefixes.

    Args:
        output: the output layer.
        states: decoder states of the prefixes.
        owner: the prefix that each token follows.
        token: the token.
    """
    size, step = len(output.weight), _block(len(states), states.device)
    token, order = token.sort()
    bounds = torch.searchsorted(token, torch.arange(0, size + step, step, device=token.device)).tolist()
    picked, sums = torch.empty(len(token), device=states.device), []
    for first, (low, high) in zip(range(0, size, step), pairwise(bounds), strict=True):
        logits = F.linear(states, output.weight[first : first + step]).float()
        edges = order[low:high]
        picked[edges] = logits[owner[edges], token[low:high] - first]
        sums.append(logits.logsumexp(1))
    return picked - torch.stack(sums).logsumexp(0)[owner]


def _block(num_prefixes: int, device: torch.device) -> int:
    """Number of tokens whose logits are computed at a time."""
    return _BLOCK if device.type == "cpu" else max(_BLOCK, _BYTES_GPU // (4 * num_prefixes))


@torch.inference_mode()
def constrained_beam_search(
    model: VIP5, batch: Batch, tree: PrefixTree, allowed: Bool[np.ndarray, "B I"], *, beam: int, top_k: int
) -> Ranked:
    """Returns the `top_k` best distinct allowed items of every row with their exact log-probabilities, best first.

    Args:
        model: the model; encodes the batch once.
        batch: B rows of any families.
        tree: the identifiers of items 1 to I.
        allowed: whether item i + 1 may be returned; False for seen items.
        beam: prefixes kept per step, at least `top_k`; with a beam as wide as the tree the search is exhaustive.
        top_k: number of items per row; fewer if fewer are allowed.
    """
    return rank_catalogue(TreeDecoder(model, batch), tree, allowed, beam=beam, top_k=top_k)


@torch.inference_mode()
def rank_catalogue(
    decoder: TreeDecoder, tree: PrefixTree, allowed: Bool[np.ndarray, "B I"], *, beam: int, top_k: int
) -> Ranked:
    """As `constrained_beam_search`, for encoded rows; the decoder must hold no nodes."""
    permitted = torch.from_numpy(allowed).to(decoder.device)
    output = decoder.model.t5.lm_head
    if tree.single_step:
        scores = _first_step(decoder, output, tree).masked_fill(~permitted, _DEAD)  # (B, I)
        best, index = scores.topk(min(top_k, tree.num_items))
        return _ranked(index + 1, best)
    return _search(decoder, output, _TreeOn(tree, permitted), beam=max(beam, top_k), top_k=top_k)


def _first_step(decoder: TreeDecoder, output: Any, tree: PrefixTree) -> Float32[Tensor, "B I"]:
    """Log-probabilities of all items with one-token identifiers."""
    states, _ = start(decoder, START_ID)
    states = states[:, 0]
    blocks = output.weight.split(_block(len(states), states.device))
    normalizer = torch.stack([F.linear(states, block).float().logsumexp(1) for block in blocks]).logsumexp(0)
    item_weights = output.weight[torch.from_numpy(tree.tokens[:, 0]).to(decoder.device)]
    return F.linear(states, item_weights).float() - normalizer[:, None]


class _TreeOn:
    """A prefix tree on the device, with the nodes that lead to an allowed item of each row."""

    def __init__(self, tree: PrefixTree, permitted: Bool[Tensor, "B I"]) -> None:
        device = permitted.device
        self.first_edge = torch.from_numpy(tree.first_edge).to(device)
        self.edge_token = torch.from_numpy(tree.edge_token).to(device)
        self.edge_node = torch.from_numpy(tree.edge_node).to(device)
        self.item = torch.from_numpy(tree.item).to(device)
        self.depth = tree.depth
        paths = torch.from_numpy(tree.paths).to(device)  # (I, depth)
        self.open = torch.zeros(len(permitted), len(tree.item), dtype=torch.int32, device=device)  # (B, nodes)
        for level in range(tree.depth):
            inside = paths[:, level] >= 0
            nodes = paths[inside, level].expand(len(permitted), -1)
            self.open.scatter_add_(1, nodes, permitted[:, inside].int())

    def children(self, nodes: Int64[Tensor, "N"]) -> tuple[Int64[Tensor, "E"], Int64[Tensor, "E"]]:
        """(owner, edge) of every child of `nodes`, ordered by owner."""
        starts = self.first_edge[nodes]
        counts = self.first_edge[nodes + 1] - starts
        owner = torch.repeat_interleave(torch.arange(len(nodes), device=nodes.device), counts)
        within = torch.arange(len(owner), device=nodes.device) - (counts.cumsum(0) - counts)[owner]
        return owner, starts[owner] + within


@dataclass
class _Beams:
    """The active prefixes of all rows, ordered by row, and their positions in the decoder's output."""

    row: Int64[Tensor, "N"]
    position: Int64[Tensor, "N"]
    """Position within the row, in the order of the decoder."""
    node: Int64[Tensor, "N"]
    """Node of the prefix tree."""
    score: Float32[Tensor, "N"]


def _search(decoder: TreeDecoder, output: Any, tree: _TreeOn, *, beam: int, top_k: int) -> Ranked:
    num_rows, device = decoder.num_rows, decoder.device
    rows = torch.arange(num_rows, device=device)
    beams = _Beams(rows, torch.zeros_like(rows), torch.full_like(rows, ROOT), torch.zeros(num_rows, device=device))
    states, paths = start(decoder, START_ID)
    best_items = torch.zeros(num_rows, top_k, dtype=torch.long, device=device)
    best_scores = torch.full((num_rows, top_k), _DEAD, device=device)
    while True:
        owner, edge = tree.children(beams.node)
        child = tree.edge_node[edge]
        useful = tree.open[beams.row[owner], child] > 0
        owner, edge, child = owner[useful], edge[useful], child[useful]
        total = beams.score[owner] + token_log_probs(
            output, states[beams.row, beams.position], owner, tree.edge_token[edge]
        )
        row, item = beams.row[owner], tree.item[child]
        done = item > 0
        new_scores, chosen = _best_per_row(row[done], total[done], num_rows, top_k)
        new_items = item[done][chosen] if bool(done.any()) else torch.zeros_like(chosen)
        best_scores, order = torch.cat([best_scores, new_scores], 1).topk(top_k)
        best_items = torch.cat([best_items, new_items], 1).gather(1, order)
        row, total, owner, edge, child = (x[~done] for x in (row, total, owner, edge, child))
        if not len(row):
            return _ranked(best_items, best_scores)
        scores, chosen = _best_per_row(row, total, num_rows, beam)  # (B, beam), best first
        beams, states, paths = _deeper(
            decoder,
            paths,
            scores=scores,
            nodes=child[chosen],
            tokens=tree.edge_token[edge[chosen]],
            parents=beams.position[owner[chosen]],
        )


def _deeper(
    decoder: TreeDecoder,
    paths: Int64[Tensor, "B N L"],
    *,
    scores: Float32[Tensor, "B K"],
    nodes: Int64[Tensor, "B K"],
    tokens: Int64[Tensor, "B K"],
    parents: Int64[Tensor, "B K"],
) -> tuple[_Beams, Float[Tensor, "B K D"], Int64[Tensor, "B K L+1"]]:
    """Decodes the chosen prefixes and returns the new beams, their states and paths."""
    length = paths.shape[2]
    nodes_added = torch.arange(scores.shape[1], device=scores.device).expand_as(scores) + decoder.num_nodes
    above = paths.gather(1, parents[..., None].expand(-1, -1, length))
    paths = torch.cat([above, nodes_added[..., None]], 2)
    states = decoder.decode_nodes(tokens, paths)
    row, position = (scores > _DEAD).nonzero(as_tuple=True)
    return _Beams(row, position, nodes[row, position], scores[row, position]), states, paths


def _best_per_row(
    row: Int64[Tensor, "N"], value: Float32[Tensor, "N"], num_rows: int, k: int
) -> tuple[Float32[Tensor, "B K"], Int64[Tensor, "B K"]]:
    """Best values of each row and their indices in `value`; `row` ascends and K is at most k."""
    counts = torch.bincount(row, minlength=num_rows)
    width = max(int(counts.max()) if len(row) else 0, 1)
    within = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    dense = torch.full((num_rows, width), _DEAD, device=value.device)
    index = torch.zeros(num_rows, width, dtype=torch.long, device=value.device)
    dense[row, within] = value
    index[row, within] = torch.arange(len(row), device=row.device)
    best, order = dense.topk(min(k, width))
    return best, index.gather(1, order)


def _ranked(items: Int64[Tensor, "B K"], scores: Float[Tensor, "B K"]) -> Ranked:
    kept = items.masked_fill(scores == _DEAD, 0)
    return Ranked(kept.cpu().numpy(), scores.float().cpu().numpy())


@torch.inference_mode()
def score_items(
    model: VIP5, batch: Batch, tree: PrefixTree, candidates: Int[np.ndarray, "B C"]
) -> Float32[np.ndarray, "B C"]:
    """Exact log-probabilities of the given items, in one decoder pass.

    Prefixes shared by candidates of a row are decoded once, as nodes of one tree per row.

    Args:
        model: the model; encodes the batch once.
        batch: B rows.
        tree: the identifiers of items 1 to I.
        candidates: item ids, padded with 0, which scores minus infinity.
    """
    return score_candidates(TreeDecoder(model, batch), tree, candidates)


@torch.inference_mode()
def score_candidates(
    decoder: TreeDecoder, tree: PrefixTree, candidates: Int[np.ndarray, "B C"]
) -> Float32[np.ndarray, "B C"]:
    """As `score_items`, for encoded rows; the decoder must hold no nodes."""
    output, device = decoder.model.t5.lm_head, decoder.device
    empty = torch.from_numpy(candidates == 0).to(device)
    known = np.maximum(candidates, 1)
    if tree.single_step:
        scores = _first_step(decoder, output, tree)
        selected = scores.gather(1, torch.from_numpy(known - 1).to(device))
        return selected.masked_fill(empty, _DEAD).cpu().numpy()
    prefixes = prefixes_of(tree, known, start_id=START_ID)
    states = decoder.decode_nodes(
        torch.from_numpy(prefixes.tokens).to(device), torch.from_numpy(prefixes.paths).to(device)
    )
    picked = token_log_probs(
        output,
        states[torch.from_numpy(prefixes.row).to(device), torch.from_numpy(prefixes.position).to(device)],
        torch.from_numpy(prefixes.edge_owner).to(device),
        torch.from_numpy(prefixes.edge_token).to(device),
    )
    total = torch.zeros(candidates.size, device=device)
    total.index_add_(0, torch.from_numpy(prefixes.edge_candidate).to(device), picked)
    return total.view(candidates.shape).masked_fill(empty, _DEAD).cpu().numpy()
