"""Beam search over the whole vocabulary, as in the paper, and parsing of the generated strings.

Reads a model and a batch; returns token sequences with length-normalised scores, and items parsed from them with the
shares of invalid, repeated and already seen items.
Trade-off: without a prefix tree, such strings take up ranks. This search reproduces the paper (`evaluate.decoding:
unconstrained`); constrained search is the default.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from modeling.data.prompt_dataset import Batch
from modeling.decoding.constrained_search import PAD_ID, START_ID
from modeling.decoding.tree_decoder import TreeDecoder, start
from modeling.models.vip5 import VIP5


@torch.inference_mode()
def unconstrained_beam_search(
    model: VIP5, batch: Batch, *, beam: int, max_tokens: int, eos_id: int
) -> tuple[Int64[np.ndarray, "B {beam} T"], Float32[np.ndarray, "B {beam}"]]:
    """Returns the `beam` best sequences of every row: tokens without the start token, and scores.

    A score is the sum of log-probabilities divided by the number of generated tokens, both including </s>. A row is
    finished when `beam` sequences have ended; a sequence may end only if it is among the `beam` best continuations of a
    step. This is the behaviour of the generation code used by the paper.
    """
    decoder = TreeDecoder(model, batch)
    num_rows, device = decoder.num_rows, decoder.device
    states, nodes = start(decoder, START_ID)
    tokens = torch.full((num_rows, 1, 1), START_ID, dtype=torch.long, device=device)
    scores = torch.zeros(num_rows, 1, device=device)
    pool = _Pool.empty(num_rows, beam, max_tokens, device)
    for length in range(1, max_tokens + 1):
        log_probs = torch.log_softmax(model.t5.lm_head(states).float(), -1)  # (B, 1 or beam, V)
        vocabulary = log_probs.shape[-1]
        best, flat = (scores[..., None] + log_probs).flatten(1).topk(2 * beam)
        parent, token = flat.div(vocabulary, rounding_mode="floor"), flat % vocabulary
        ending = token == eos_id
        counted = ending & (torch.arange(2 * beam, device=device) < beam) & ~pool.full[:, None]
        pool.add(
            torch.cat([_rows(tokens, parent), token[..., None]], -1),
            (best / length).masked_fill(~counted, -torch.inf),
        )
        if bool(pool.full.all()):
            return pool.result()
        order = ending.int().argsort(dim=1, stable=True)[:, :beam]  # the best unfinished sequences
        scores, token, parent = (x.gather(1, order) for x in (best, token, parent))
        tokens = torch.cat([_rows(tokens, parent), token[..., None]], -1)
        if length < max_tokens:
            added = torch.arange(beam, device=device).expand_as(token) + decoder.num_nodes
            nodes = torch.cat([_rows(nodes, parent), added[..., None]], -1)
            states = decoder.decode_nodes(token, nodes)
    pool.add(tokens, (scores / tokens.shape[-1]).masked_fill(pool.full[:, None], -torch.inf))
    return pool.result()


def _rows(values: Int64[Tensor, "B N L"], index: Int64[Tensor, "B K"]) -> Int64[Tensor, "B K L"]:
    """Gathers `values` along the second axis by `index`."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))


@dataclass
class _Pool:
    """The best finished sequences of every row."""

    tokens: Int64[Tensor, "B K T"]
    scores: Float32[Tensor, "B K"]
    added: Int64[Tensor, "B"]

    @classmethod
    def empty(cls, num_rows: int, beam: int, max_tokens: int, device: torch.device) -> "_Pool":
        tokens = torch.full((num_rows, beam, max_tokens + 1), PAD_ID, dtype=torch.long, device=device)
        scores = torch.full((num_rows, beam), -torch.inf, device=device)
        return cls(tokens, scores, torch.zeros(num_rows, dtype=torch.long, device=device))

    @property
    def full(self) -> Bool[Tensor, "B"]:
        return self.added >= self.scores.shape[1]

    def add(self, tokens: Int64[Tensor, "B N L"], scores: Float32[Tensor, "B N"]) -> None:
        beam = self.scores.shape[1]
        self.added = self.added + (scores > -torch.inf).sum(1)
        padded = torch.nn.functional.pad(tokens, (0, self.tokens.shape[-1] - tokens.shape[-1]), value=PAD_ID)
        combined = torch.cat([self.scores, scores], 1)
        self.scores, order = combined.topk(beam)
        both = torch.cat([self.tokens, padded], 1)
        self.tokens = both.gather(1, order[..., None].expand(-1, -1, both.shape[-1]))

    def result(self) -> tuple[Int64[np.ndarray, "B K T"], Float32[np.ndarray, "B K"]]:
        return self.tokens[..., 1:].cpu().numpy(), self.scores.float().cpu().numpy()


@dataclass
class Parsed:
    """Counts of the strings of an unconstrained search over all rows."""

    strings: int = 0
    """Number of generated strings."""
    invalid: int = 0
    """Strings that are not an item of the catalogue."""
    repeated: int = 0
    """Strings that repeat an item of the same row."""
    seen: int = 0
    """Distinct items that the user has already seen."""

    def shares(self) -> dict[str, float]:
        """The counts of invalid, repeated and seen strings as shares of all strings."""
        whole = max(self.strings, 1)
        return {f"{name}_share": getattr(self, name) / whole for name in ("invalid", "repeated", "seen")}


def parse_items(
    texts: Sequence[str],
    scores: Sequence[float],
    item_of: Mapping[str, int],
    seen: Bool[np.ndarray, "I"],
    counts: Parsed,
) -> list[tuple[int, float]]:
    """Returns (item_id, score) of the valid strings, each item once at its best rank; updates `counts`.

    Example: ["17", "x", "17", " 4"] with items "17" -> 17 and "4" -> 4 returns items 17 and 4, with one
    invalid and one repeated string.
    """
    best_scores: dict[int, float] = {}
    for text, score in zip(texts, scores, strict=True):
        counts.strings += 1
        item = item_of.get("".join(text.split()))
        if item is None:
            counts.invalid += 1
        elif item in best_scores:
            counts.repeated += 1
        else:
            best_scores[item] = float(score)
            counts.seen += int(seen[item - 1])
    return list(best_scores.items())
