"""Beam search over the whole vocabulary, as the paper decodes items, and what its strings are worth.

Enters: a model and a batch. Leaves: token sequences with length-normalised scores; items parsed from them, with the
shares of strings that name no item, an item again, or an item already bought. Trade-off: no prefix tree, so ranks are
lost to such strings; here for fidelity (`evaluate.decoding: unconstrained`), the constrained search is the default.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from modeling.decoding.constrained_search import PAD_ID, START_ID
from modeling.decoding.tree_decoder import TreeDecoder, started

if TYPE_CHECKING:
    from modeling.data.prompt_dataset import Batch
    from modeling.models.vip5 import VIP5


@torch.inference_mode()
def free_beam_search(
    model: "VIP5", batch: "Batch", *, beam: int, max_tokens: int, eos_id: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """The `beam` best sequences of every row, best first: tokens (B, beam, T) without the start token and their scores.

    A score is the sum of log-probabilities divided by the number of generated tokens, </s> counted in both. A row is
    finished as soon as `beam` sequences have ended; </s> counts only among the `beam` best continuations of a step
    (the behaviour of the generation code the paper used; golden values in the specification).
    """
    decoder = TreeDecoder(model, batch)
    num_rows, device = decoder.num_rows, decoder.device
    states, nodes = started(decoder, START_ID)
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
        order = ending.int().argsort(dim=1, stable=True)[:, :beam]  # the best that go on
        scores, token, parent = (x.gather(1, order) for x in (best, token, parent))
        tokens = torch.cat([_rows(tokens, parent), token[..., None]], -1)
        if length < max_tokens:
            own = torch.arange(beam, device=device).expand_as(token) + decoder.num_nodes
            nodes = torch.cat([_rows(nodes, parent), own[..., None]], -1)
            states = decoder.extend(token, nodes)
    pool.add(tokens, (scores / tokens.shape[-1]).masked_fill(pool.full[:, None], -torch.inf))
    return pool.result()


def _rows(values: Tensor, index: Tensor) -> Tensor:
    """(B, N, L) `values` at the places `index` (B, K) of the second axis: (B, K, L)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))


@dataclass
class _Pool:
    """The best finished sequences of every row."""

    tokens: Tensor
    scores: Tensor
    added: Tensor

    @classmethod
    def empty(cls, num_rows: int, beam: int, max_tokens: int, device: torch.device) -> "_Pool":
        tokens = torch.full((num_rows, beam, max_tokens + 1), PAD_ID, dtype=torch.long, device=device)
        scores = torch.full((num_rows, beam), -torch.inf, device=device)
        return cls(tokens, scores, torch.zeros(num_rows, dtype=torch.long, device=device))

    @property
    def full(self) -> Tensor:
        return self.added >= self.scores.shape[1]

    def add(self, tokens: Tensor, scores: Tensor) -> None:
        beam = self.scores.shape[1]
        self.added = self.added + (scores > -torch.inf).sum(1)
        padded = torch.nn.functional.pad(tokens, (0, self.tokens.shape[-1] - tokens.shape[-1]), value=PAD_ID)
        joined = torch.cat([self.scores, scores], 1)
        self.scores, order = joined.topk(beam)
        both = torch.cat([self.tokens, padded], 1)
        self.tokens = both.gather(1, order[..., None].expand(-1, -1, both.shape[-1]))

    def result(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        return self.tokens[..., 1:].cpu().numpy(), self.scores.float().cpu().numpy()


@dataclass
class Parsed:
    """What the strings of an unconstrained search said, counted over rows."""

    strings: int = 0
    """Strings generated."""
    invalid: int = 0
    """Strings that name no item of the catalogue."""
    repeated: int = 0
    """Strings that name an item named before in the same row."""
    seen: int = 0
    """Distinct items that the user already has."""

    def shares(self) -> dict[str, float]:
        """The three counts as shares of all strings."""
        whole = max(self.strings, 1)
        return {f"{name}_share": getattr(self, name) / whole for name in ("invalid", "repeated", "seen")}


def parse_items(
    texts: Sequence[str],
    scores: Sequence[float],
    item_of: Mapping[str, int],
    seen: npt.NDArray[np.bool_],
    counts: Parsed,
) -> list[tuple[int, float]]:
    """(item_id, score) of the strings that name an item, each item at its best place; `counts` grows.

    Example: ["17", "x", "17", " 4"] with items "17" -> 17 and "4" -> 4 gives items 17 and 4; one string was invalid,
    one repeated.
    """
    found: dict[int, float] = {}
    for text, score in zip(texts, scores, strict=True):
        counts.strings += 1
        item = item_of.get("".join(text.split()))
        if item is None:
            counts.invalid += 1
        elif item in found:
            counts.repeated += 1
        else:
            found[item] = float(score)
            counts.seen += int(seen[item - 1])
    return list(found.items())
