"""Masks items already in the prompt from the training softmax, as evaluation does.

Reads a prompt dataset; returns the tokens to mask in the first decoder step of each row.
Trade-off: masks only one-token identifiers, which the first step decides; others train with the whole vocabulary.

Why: with collaborative item embeddings, the items of a history are the most likely predictions, but never the target.
Without the mask, training first pushes these embeddings apart and destroys the information they hold
(docs/decisions/0027).
"""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from modeling.data.prompt_dataset import PromptDataset
from modeling.data.ragged import Ragged
from modeling.runtime.devices import to_device

FAR_BELOW = -1e4  # probability 0, but finite, so that its product with 0 is 0


@dataclass(frozen=True)
class MaskedTokens:
    """Tokens to mask in the first decoder step, as pairs of row and token."""

    rows: Int64[Tensor, "N"]
    """Positions in the batch, ascending."""
    tokens: Int64[Tensor, "N"]
    """Token ids to mask."""


def targets_unseen_item(corpus: PromptDataset) -> Bool[np.ndarray, "N"]:
    """Whether the target of each row is a single identifier token that its source does not contain."""
    sources, targets = corpus.sources, corpus.targets
    first = targets.values[targets.offsets[:-1]]
    is_seen = np.zeros(len(sources), bool)
    is_seen[sources.owners[sources.values == np.repeat(first, sources.lengths)]] = True
    unseen: Bool[np.ndarray, "N"] = corpus.is_single_item(np.arange(len(corpus))) & ~is_seen
    return unseen


class SeenItemMask:
    """Items in the source of each row whose target is not among them; other rows are not masked."""

    def __init__(self, corpus: PromptDataset) -> None:
        sources = corpus.sources
        seen = np.isin(sources.values, corpus.tokens.identifier_ids)
        self._seen = sources.keep(seen & targets_unseen_item(corpus)[sources.owners])

    def of(self, rows: Int64[np.ndarray, "B"], device: torch.device) -> MaskedTokens | None:
        """The tokens to mask for a batch of `rows`; None if there are none."""
        seen: Ragged = self._seen.take(rows)
        if not len(seen.values):
            return None
        owners, tokens = (torch.from_numpy(part.astype(np.int64)) for part in (seen.owners, seen.values))
        return MaskedTokens(to_device(owners, device), to_device(tokens, device))


def mask_seen_logits(
    logits: Float[Tensor, "N V"], rows: Int64[Tensor, "N"], masked_tokens: MaskedTokens
) -> Float[Tensor, "N V"]:
    """Masks `logits` in place at the first target token of each row; `rows` ascends."""
    return logits.index_put_(
        (torch.searchsorted(rows, masked_tokens.rows), masked_tokens.tokens), logits.new_full((), FAR_BELOW)
    )
