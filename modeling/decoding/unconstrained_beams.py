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
from modeling.data.tokenizer import VIP5Tokenizer
from modeling.decoding.constrained_search import PAD_ID, START_ID, Ranked
from modeling.decoding.tree_decoder import TreeDecoder, gather_rows, start
from modeling.models.vip5 import VIP5

_MAX_TOKENS = 50  # of a generated string, as in the paper


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
            torch.cat([gather_rows(tokens, parent), token[..., None]], -1),
            (best / length).masked_fill(~counted, -torch.inf),
        )
        if bool(pool.full.all()):
            return pool.result()
        order = ending.int().argsort(dim=1, stable=True)[:, :beam]  # the best unfinished sequences
        scores, token, parent = (x.gather(1, order) for x in (best, token, parent))
        tokens = torch.cat([gather_rows(tokens, parent), token[..., None]], -1)
        if length < max_tokens:
            added = torch.arange(beam, device=device).expand_as(token) + decoder.num_nodes
            nodes = torch.cat([gather_rows(nodes, parent), added[..., None]], -1)
            states = decoder.decode_nodes(token, nodes)
    pool.add(tokens, (scores / tokens.shape[-1]).masked_fill(pool.full[:, None], -torch.inf))
    return pool.result()


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


@dataclass(frozen=True)
class StringCounts:
    """Counts of the strings of an unconstrained search."""

    strings: int = 0
    """Number of generated strings."""
    invalid: int = 0
    """Strings that are not an item of the catalogue."""
    repeated: int = 0
    """Strings that repeat an item of the same row."""
    seen: int = 0
    """Distinct items that the user has already seen."""

    def __add__(self, other: "StringCounts") -> "StringCounts":
        return StringCounts(*(getattr(self, name) + getattr(other, name) for name in vars(self)))

    def shares(self) -> dict[str, float]:
        """Returns the counts of invalid, repeated and seen strings as shares of all strings."""
        whole = max(self.strings, 1)
        return {f"{name}_share": getattr(self, name) / whole for name in ("invalid", "repeated", "seen")}


def parse_items(
    texts: Sequence[str], scores: Sequence[float], item_of: Mapping[str, int], seen: Bool[np.ndarray, "I"]
) -> tuple[list[tuple[int, float]], StringCounts]:
    """Returns (item_id, score) of the valid strings, each item once at its best rank, and the counts of the strings.

    Example: ["17", "x", "17", " 4"] with items "17" -> 17 and "4" -> 4 returns items 17 and 4, with one
    invalid and one repeated string.
    """
    items = [item_of.get("".join(text.split())) for text in texts]
    best_scores: dict[int, float] = {}
    for item, score in zip(items, scores, strict=True):
        if item is not None:
            best_scores.setdefault(item, float(score))
    invalid = items.count(None)
    counts = StringCounts(
        strings=len(texts),
        invalid=invalid,
        repeated=len(texts) - invalid - len(best_scores),
        seen=sum(bool(seen[item - 1]) for item in best_scores),
    )
    return list(best_scores.items()), counts


@dataclass(frozen=True, kw_only=True)
class Generated:
    """The strings that an unconstrained search generated for a batch, and the items parsed from them."""

    ranked: Ranked
    strings: list[list[str]]
    """Generated strings per row, best first."""
    counts: StringCounts


def generate_items(
    model: VIP5,
    batch: Batch,
    tokens: VIP5Tokenizer,
    item_of: Mapping[str, int],
    seen: Bool[np.ndarray, "B I"],
    *,
    beam: int,
) -> Generated:
    """Generates `beam` strings per row by `unconstrained_beam_search` and parses items from them.

    Args:
        model: the model, in evaluation mode.
        batch: B rows.
        tokens: tokenizer of the model.
        item_of: item id by identifier text.
        seen: whether the user knows item i + 1; seen items are counted, not removed.
        beam: strings per row.
    """
    sequences, sums = unconstrained_beam_search(model, batch, beam=beam, max_tokens=_MAX_TOKENS, eos_id=tokens.eos_id)
    items = np.zeros((len(sequences), beam), np.int64)
    scores = np.full(items.shape, -np.inf, np.float32)
    strings, counts = [], StringCounts()
    for row, (beams, values) in enumerate(zip(sequences, sums, strict=True)):
        strings.append([tokens.decode(ids.tolist()) for ids in beams])
        parsed, row_counts = parse_items(strings[-1], values.tolist(), item_of, seen[row])
        counts += row_counts
        for column, (item, value) in enumerate(parsed):
            items[row, column], scores[row, column] = item, value
    return Generated(ranked=Ranked(items, scores), strings=strings, counts=counts)
