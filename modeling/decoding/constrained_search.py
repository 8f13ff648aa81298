"""From encoder states to ranked items or sentences: constrained beams, exact likelihoods, greedy text.

Enters: a model, a batch, a prefix tree of item identifiers and which items each row may name. Leaves: item ids with
their log-probabilities, best first, or token ids. A row is encoded once and its first step is shared by all beams; a
catalogue of one-token identifiers is ranked exactly in that step, and listed candidates in one pass over the tree of
their prefixes. Trade-off: logits of the whole vocabulary are made for every prefix, although only the tokens that the
tree allows are looked at, because a log-probability needs the sum over all of them.

A score is the sum of the log-probabilities of the identifier's tokens under the whole vocabulary: of an answer that
begins with them and, where another identifier goes on from there, ends with them (`prefix_tree`). Such answers exclude
each other, so the probabilities of a catalogue add up to 1 at most.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from modeling.decoding.prefix_tree import ROOT, PrefixTree, prefixes_of
from modeling.decoding.tree_decoder import TreeDecoder, started

if TYPE_CHECKING:
    from modeling.data.prompt_dataset import Batch
    from modeling.models.vip5 import VIP5

START_ID = 0  # T5 begins every target with its padding token
PAD_ID = 0
_BLOCK = 1024  # tokens whose logits are made at a time on a CPU, so that neither they nor the weights leave its cache
_BYTES_GPU = 2**30  # the same on a GPU, as memory
_DEAD = -torch.inf


@dataclass(frozen=True)
class Ranked:
    """The best items of every row."""

    items: npt.NDArray[np.int64]
    """(B, K) item ids, best first, 0 where a row has fewer."""
    scores: npt.NDArray[np.float32]
    """(B, K) log-probabilities in nats, minus infinity where a row has fewer."""


def token_log_probs(output: Any, states: Tensor, owner: Tensor, token: Tensor) -> Tensor:
    """(E,) log-probabilities, under the whole vocabulary, of the tokens that may follow some prefixes.

    Args:
        output: the output layer.
        states: (N, D) decoder states of the prefixes.
        owner: (E,) the prefix that each token follows.
        token: (E,) the token.
    """
    size, step = len(output.weight), _block(len(states), states.device)
    token, order = token.sort()
    bounds = torch.searchsorted(token, torch.arange(0, size + step, step, device=token.device)).tolist()
    picked, sums = torch.empty(len(token), device=states.device), []
    for start, (low, high) in zip(range(0, size, step), pairwise(bounds), strict=True):
        logits = F.linear(states, output.weight[start : start + step]).float()
        edges = order[low:high]
        picked[edges] = logits[owner[edges], token[low:high] - start]
        sums.append(logits.logsumexp(1))
    return picked - torch.stack(sums).logsumexp(0)[owner]


def _block(num_prefixes: int, device: torch.device) -> int:
    """Tokens whose logits are made at a time."""
    return _BLOCK if device.type == "cpu" else max(_BLOCK, _BYTES_GPU // (4 * num_prefixes))


@torch.inference_mode()
def constrained_beam_search(
    model: "VIP5", batch: "Batch", tree: PrefixTree, allowed: npt.NDArray[np.bool_], *, beam: int, top_k: int
) -> Ranked:
    """The `top_k` best allowed items of every row: each once, with its exact log-probability, best first.

    Args:
        model: encodes the batch once.
        batch: B rows of any families.
        tree: the identifiers of items 1 to I.
        allowed: (B, I), whether item i + 1 may be named; items seen before are excluded here.
        beam: prefixes kept at every step; a beam as wide as the tree makes the search exhaustive. Never below top_k.
        top_k: items returned a row; fewer where fewer are allowed.
    """
    return search(TreeDecoder(model, batch), tree, allowed, beam=beam, top_k=top_k)


@torch.inference_mode()
def search(decoder: TreeDecoder, tree: PrefixTree, allowed: npt.NDArray[np.bool_], *, beam: int, top_k: int) -> Ranked:
    """As `constrained_beam_search`, of rows that are encoded already; the decoder must hold no nodes."""
    permitted = torch.from_numpy(allowed).to(decoder.device)
    output = decoder.model.t5.lm_head
    if tree.single_step:
        scores = _first_step(decoder, output, tree).masked_fill(~permitted, _DEAD)  # (B, I)
        best, index = scores.topk(min(top_k, tree.num_items))
        return _ranked(index + 1, best)
    return _search(decoder, output, _TreeOn(tree, permitted), beam=max(beam, top_k), top_k=top_k)


def _first_step(decoder: TreeDecoder, output: Any, tree: PrefixTree) -> Tensor:
    """(B, I) log-probability of every item of one token."""
    states, _ = started(decoder, START_ID)
    states = states[:, 0]
    blocks = output.weight.split(_block(len(states), states.device))
    whole = torch.stack([F.linear(states, block).float().logsumexp(1) for block in blocks]).logsumexp(0)
    own = output.weight[torch.from_numpy(tree.tokens[:, 0]).to(decoder.device)]
    return F.linear(states, own).float() - whole[:, None]


class _TreeOn:
    """A prefix tree on the device, with the nodes that still lead to an allowed item of each row."""

    def __init__(self, tree: PrefixTree, permitted: Tensor) -> None:
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

    def children(self, nodes: Tensor) -> tuple[Tensor, Tensor]:
        """(owner, edge) of every child of `nodes` (N,), in order of owner."""
        starts = self.first_edge[nodes]
        counts = self.first_edge[nodes + 1] - starts
        owner = torch.repeat_interleave(torch.arange(len(nodes), device=nodes.device), counts)
        within = torch.arange(len(owner), device=nodes.device) - (counts.cumsum(0) - counts)[owner]
        return owner, starts[owner] + within


@dataclass
class _Beams:
    """The living prefixes of all rows, in order of row, and where they stand in the decoder's output."""

    row: Tensor
    place: Tensor
    """Place within the row, as the decoder was given them."""
    node: Tensor
    """Node of the prefix tree."""
    score: Tensor


def _search(decoder: TreeDecoder, output: Any, tree: _TreeOn, *, beam: int, top_k: int) -> Ranked:
    num_rows, device = decoder.num_rows, decoder.device
    rows = torch.arange(num_rows, device=device)
    beams = _Beams(rows, torch.zeros_like(rows), torch.full_like(rows, ROOT), torch.zeros(num_rows, device=device))
    states, paths = started(decoder, START_ID)
    best_items = torch.zeros(num_rows, top_k, dtype=torch.long, device=device)
    best_scores = torch.full((num_rows, top_k), _DEAD, device=device)
    while True:
        owner, edge = tree.children(beams.node)
        child = tree.edge_node[edge]
        useful = tree.open[beams.row[owner], child] > 0
        owner, edge, child = owner[useful], edge[useful], child[useful]
        total = beams.score[owner] + token_log_probs(
            output, states[beams.row, beams.place], owner, tree.edge_token[edge]
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
            parents=beams.place[owner[chosen]],
        )


def _deeper(
    decoder: TreeDecoder, paths: Tensor, *, scores: Tensor, nodes: Tensor, tokens: Tensor, parents: Tensor
) -> tuple[_Beams, Tensor, Tensor]:
    """Decodes the chosen prefixes, all (B, beam): the new beams, their states and paths; dead places are left out."""
    length = paths.shape[2]
    own = torch.arange(scores.shape[1], device=scores.device).expand_as(scores) + decoder.num_nodes
    above = paths.gather(1, parents[..., None].expand(-1, -1, length))
    paths = torch.cat([above, own[..., None]], 2)
    states = decoder.extend(tokens, paths)
    row, place = (scores > _DEAD).nonzero(as_tuple=True)
    return _Beams(row, place, nodes[row, place], scores[row, place]), states, paths


def _best_per_row(row: Tensor, value: Tensor, num_rows: int, k: int) -> tuple[Tensor, Tensor]:
    """(B, K) best values of each row and where they stand in `value`; `row` ascends. K is at most k."""
    counts = torch.bincount(row, minlength=num_rows)
    width = max(int(counts.max()) if len(row) else 0, 1)
    within = torch.arange(len(row), device=row.device) - (counts.cumsum(0) - counts)[row]
    dense = torch.full((num_rows, width), _DEAD, device=value.device)
    place = torch.zeros(num_rows, width, dtype=torch.long, device=value.device)
    dense[row, within] = value
    place[row, within] = torch.arange(len(row), device=row.device)
    best, order = dense.topk(min(k, width))
    return best, place.gather(1, order)


def _ranked(items: Tensor, scores: Tensor) -> Ranked:
    kept = items.masked_fill(scores == _DEAD, 0)
    return Ranked(kept.cpu().numpy(), scores.float().cpu().numpy())


@torch.inference_mode()
def score_items(
    model: "VIP5", batch: "Batch", tree: PrefixTree, candidates: npt.NDArray[np.integer]
) -> npt.NDArray[np.float32]:
    """Exact log-probabilities (B, C) of the given items, all of them in one pass of the decoder.

    Prefixes that candidates of a row share are decoded once, as nodes of one tree a row.

    Args:
        model: encodes the batch once.
        batch: B rows.
        tree: the identifiers of items 1 to I.
        candidates: (B, C) item ids; 0 marks an empty place, which scores minus infinity.
    """
    return score(TreeDecoder(model, batch), tree, candidates)


@torch.inference_mode()
def score(decoder: TreeDecoder, tree: PrefixTree, candidates: npt.NDArray[np.integer]) -> npt.NDArray[np.float32]:
    """As `score_items`, of rows that are encoded already; the decoder must hold no nodes."""
    output, device = decoder.model.t5.lm_head, decoder.device
    empty = torch.from_numpy(candidates == 0).to(device)
    known = np.maximum(candidates, 1)
    if tree.single_step:
        scores = _first_step(decoder, output, tree)
        found = scores.gather(1, torch.from_numpy(known - 1).to(device))
        return found.masked_fill(empty, _DEAD).cpu().numpy()
    prefixes = prefixes_of(tree, known, start_id=START_ID)
    states = decoder.extend(torch.from_numpy(prefixes.tokens).to(device), torch.from_numpy(prefixes.paths).to(device))
    picked = token_log_probs(
        output,
        states[torch.from_numpy(prefixes.row).to(device), torch.from_numpy(prefixes.place).to(device)],
        torch.from_numpy(prefixes.edge_owner).to(device),
        torch.from_numpy(prefixes.edge_token).to(device),
    )
    total = torch.zeros(candidates.size, device=device)
    total.index_add_(0, torch.from_numpy(prefixes.edge_candidate).to(device), picked)
    return total.view(candidates.shape).masked_fill(empty, _DEAD).cpu().numpy()


@torch.inference_mode()
def greedy_decode(model: "VIP5", batch: "Batch", *, max_tokens: int, eos_id: int) -> npt.NDArray[np.int64]:
    """(B, T) the likeliest token at every step, T at most `max_tokens`; padding (0) follows </s>."""
    decoder = TreeDecoder(model, batch)
    states, paths = started(decoder, START_ID)
    ended = torch.zeros(decoder.num_rows, dtype=torch.bool, device=decoder.device)
    tokens: list[Tensor] = []
    while True:
        following = model.t5.lm_head(states[:, -1]).argmax(-1).masked_fill(ended, PAD_ID)
        tokens.append(following)
        ended |= following == eos_id
        if len(tokens) == max_tokens or bool(ended.all()):
            return torch.stack(tokens, 1).cpu().numpy()
        paths = torch.cat([paths, torch.full_like(paths[..., :1], decoder.num_nodes)], 2)
        states = decoder.extend(following[:, None], paths)
