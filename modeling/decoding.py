"""From encoder states to ranked items or sentences: constrained beams, exact likelihoods, plain beams, greedy text.

Enters: a model, a batch, a prefix tree of item identifiers and which items each row may name. Leaves: item ids with
their log-probabilities, best first, or token ids. The user is encoded once; a catalogue of one-token identifiers is
ranked exactly in one decoder step. Trade-off: prefixes of identifiers (a few tokens) are decoded anew at every step
instead of reordering a key-value cache.

A score is the sum of the log-probabilities of the identifier's tokens under the whole vocabulary. </s> is among them
only where `tree.ends` (one identifier is the beginning of another); elsewhere it cannot tell two items apart.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from modeling.prefix_tree import ROOT, PrefixTree

if TYPE_CHECKING:
    from modeling.batches import Batch

START_ID = 0  # T5 begins every target with its padding token
PAD_ID = 0
_CHUNK_BYTES = 256 * 2**20  # encoder states or logits held at once while candidates are scored
_DEAD = -torch.inf


class Model(Protocol):
    """What decoding needs of a model; `modeling.vip5.VIP5` has it."""

    def encode(self, batch: "Batch") -> Tensor:
        """Encoder states (B, S, D)."""
        ...

    def logits(self, decoder_input_ids: Tensor, states: Tensor, attention_mask: Tensor, families: Tensor) -> Tensor:
        """(B, T, V) logits of the token after each of (B, T)."""
        ...


@dataclass(frozen=True)
class Ranked:
    """The best items of every row."""

    items: npt.NDArray[np.int64]
    """(B, K) item ids, best first, 0 where a row has fewer."""
    scores: npt.NDArray[np.float32]
    """(B, K) log-probabilities in nats, minus infinity where a row has fewer."""


@dataclass(frozen=True)
class Source:
    """Encoded rows, to be repeated for beams."""

    states: Tensor
    mask: Tensor
    families: Tensor

    def rows(self, index: Tensor) -> "Source":
        """The same rows in another order, repeated as `index` says."""
        return Source(self.states[index], self.mask[index], self.families[index])

    @property
    def parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """What `Model.logits` wants beside the prefixes."""
        return self.states, self.mask, self.families

    def log_probs(self, model: Model, prefixes: Tensor) -> Tensor:
        """(B, T, V) log-probabilities of the token after each prefix position."""
        return torch.log_softmax(model.logits(prefixes, *self.parts).float(), -1)


def encoded(model: Model, batch: "Batch") -> Source:
    """The batch, encoded once."""
    return Source(model.encode(batch), batch.attention_mask, batch.families)


def started(rows: int, device: torch.device) -> Tensor:
    """(rows, 1): the decoder's first token."""
    return torch.full((rows, 1), START_ID, dtype=torch.long, device=device)


@torch.no_grad()
def constrained_beam_search(
    model: Model, batch: "Batch", tree: PrefixTree, allowed: npt.NDArray[np.bool_], *, beam: int, top_k: int
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
    source = encoded(model, batch)
    device = source.states.device
    permitted = torch.from_numpy(allowed).to(device)
    if tree.single_step:
        first = source.log_probs(model, started(len(allowed), device))[:, 0]  # (B, V)
        tokens = torch.from_numpy(tree.tokens[:, 0]).to(device)
        scores = first[:, tokens].masked_fill(~permitted, _DEAD)  # (B, I)
        best, index = scores.topk(min(top_k, tree.num_items))
        return _ranked(index + 1, best)
    return _search(model, source, _TreeOn(tree, permitted), beam=max(beam, top_k), top_k=top_k)


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

    def children(self, nodes: Tensor, alive: Tensor) -> tuple[Tensor, Tensor]:
        """(owner, edge) of every child of the living `nodes` (N,), in order of owner."""
        starts = self.first_edge[nodes]
        counts = (self.first_edge[nodes + 1] - starts).masked_fill(~alive, 0)
        owner = torch.repeat_interleave(torch.arange(len(nodes), device=nodes.device), counts)
        within = torch.arange(len(owner), device=nodes.device) - (counts.cumsum(0) - counts)[owner]
        return owner, starts[owner] + within


def _search(model: Model, source: Source, tree: _TreeOn, *, beam: int, top_k: int) -> Ranked:
    num_rows, device = len(source.states), source.states.device
    row_of = torch.arange(num_rows, device=device)  # row of every living prefix, flat and ascending
    nodes = torch.full((num_rows,), ROOT, device=device)
    scores = torch.zeros(num_rows, device=device)
    prefixes = started(num_rows, device)
    best_items = torch.zeros(num_rows, top_k, dtype=torch.long, device=device)
    best_scores = torch.full((num_rows, top_k), _DEAD, device=device)
    for _ in range(tree.depth):
        log_probs = source.rows(row_of).log_probs(model, prefixes)[:, -1]
        owner, edge = tree.children(nodes, torch.ones_like(nodes, dtype=torch.bool))
        child = tree.edge_node[edge]
        useful = tree.open[row_of[owner], child] > 0
        owner, edge, child = owner[useful], edge[useful], child[useful]
        total = scores[owner] + log_probs[owner, tree.edge_token[edge]]
        row, item = row_of[owner], tree.item[child]
        done = item > 0
        new_scores, place = _best_per_row(row[done], total[done], num_rows, top_k)
        new_items = item[done][place] if done.any() else torch.zeros_like(place)
        joined = torch.cat([best_scores, new_scores], 1)
        best_scores, order = joined.topk(top_k)
        best_items = torch.cat([best_items, new_items], 1).gather(1, order)
        row, total, owner, edge, child = (x[~done] for x in (row, total, owner, edge, child))
        if not len(row):
            break
        kept_scores, place = _best_per_row(row, total, num_rows, beam)
        place = place[kept_scores > _DEAD]
        row_of, nodes, scores = row[place], child[place], total[place]
        prefixes = torch.cat([prefixes[owner[place]], tree.edge_token[edge[place]][:, None]], 1)
    return _ranked(best_items.masked_fill(best_scores == _DEAD, 0), best_scores)


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


@torch.no_grad()
def score_items(
    model: Model, batch: "Batch", tree: PrefixTree, candidates: npt.NDArray[np.integer]
) -> npt.NDArray[np.float32]:
    """Exact log-probabilities (B, C) of the given items, every candidate of a row read under the same encoding.

    Args:
        model: encodes the batch once.
        batch: B rows.
        tree: the identifiers of items 1 to I.
        candidates: (B, C) item ids; 0 marks an empty place, which scores minus infinity.
    """
    source = encoded(model, batch)
    device = source.states.device
    tokens = torch.from_numpy(tree.tokens[np.maximum(candidates, 1) - 1]).to(device)  # (B, C, L)
    empty = torch.from_numpy(candidates == 0).to(device)
    num_rows, num_candidates, length = tokens.shape
    if tree.single_step:
        first = source.log_probs(model, started(num_rows, device))[:, 0]
        return first.gather(1, tokens[..., 0]).masked_fill(empty, _DEAD).cpu().numpy()
    flat = tokens.flatten(0, 1)  # (B C, L)
    rows = torch.arange(num_rows, device=device).repeat_interleave(num_candidates)
    inputs = torch.cat([started(len(flat), device), flat[:, :-1].clamp(min=PAD_ID)], 1)
    vocabulary = model.logits(inputs[:1, :1], *source.rows(rows[:1]).parts).shape[-1]
    step = max(1, _CHUNK_BYTES // (4 * max(source.states[0].numel(), length * vocabulary)))
    scores = []
    for start in range(0, len(flat), step):
        part = slice(start, start + step)
        log_probs = source.rows(rows[part]).log_probs(model, inputs[part])  # (n, L, V)
        picked = log_probs.gather(2, flat[part].clamp(min=0)[..., None])[..., 0]
        scores.append(picked.masked_fill(flat[part] < 0, 0.0).sum(1))
    return torch.cat(scores).view(num_rows, num_candidates).masked_fill(empty, _DEAD).cpu().numpy()


@torch.no_grad()
def greedy_decode(model: Model, batch: "Batch", *, max_tokens: int, eos_id: int) -> npt.NDArray[np.int64]:
    """(B, T) the likeliest token at every step, T at most `max_tokens`; padding (0) follows </s>."""
    source = encoded(model, batch)
    tokens = started(len(source.states), source.states.device)
    ended = torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)
    for _ in range(max_tokens):
        logits = model.logits(tokens, *source.parts)[:, -1]
        following = logits.argmax(-1).masked_fill(ended, PAD_ID)
        tokens = torch.cat([tokens, following[:, None]], 1)
        ended |= following == eos_id
        if bool(ended.all()):
            break
    return tokens[:, 1:].cpu().numpy()
