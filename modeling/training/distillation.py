"""Distils a ridge regression (EASE) into the model: soft targets for next-item prompts.

Reads train prompts, train interactions and, optionally, title words; returns item probabilities for each row.
Trade-off: the probabilities are recomputed for every microbatch, because storing them takes I numbers per row.

Why: a single purchased item out of thousands is a weak signal, and a model of this size memorises its train users
before it generalises (docs/decisions/0026).
"""

import numpy as np
import numpy.typing as npt
import torch

from features.errors import ParamsError
from modeling.collaborative.ease import Ridge, item_weights
from modeling.config.model import TeacherParams
from modeling.data.prompt_dataset import PromptDataset
from modeling.data.ragged import IntArray, Ragged
from modeling.data.tokenizer import VIP5Tokenizer
from modeling.models.targets import SoftTargets
from modeling.runtime.devices import CPU, to_device


class Teacher:
    """Soft targets for the rows of one dataset.

    Args:
        corpus: train prompts.
        item_tokens: (I,) token ids of items 1 to I.
        ridge: the regression, on the training device.
        weight: weight of the soft targets in the loss of a row, from 0 to 1.
    """

    def __init__(self, corpus: PromptDataset, item_tokens: IntArray, ridge: Ridge, weight: float) -> None:
        self.ridge, self.weight = ridge, weight
        self.tokens = torch.from_numpy(np.asarray(item_tokens, np.int64)).to(ridge.weights.device)
        item_of = np.zeros(max(corpus.tokens.size, int(item_tokens.max(initial=0)) + 1), np.int64)
        item_of[item_tokens] = np.arange(1, len(item_tokens) + 1)
        named = item_of[corpus.sources.values]
        self.named = Ragged(named, corpus.sources.offsets).keep(named > 0)
        self.answers = np.zeros(len(corpus), bool)
        rows = np.flatnonzero(self.named.lengths > 0)
        self.answers[corpus.next_item_rows(rows)] = True

    def soft_targets(self, rows: IntArray, device: torch.device) -> SoftTargets | None:
        """Soft targets for a batch of `rows`; None if it has no next-item prompt."""
        positions = np.flatnonzero(self.answers[rows])
        if not len(positions):
            return None
        probabilities = self.ridge.probabilities(self.named, np.asarray(rows, np.int64)[positions])
        return SoftTargets(to_device(torch.from_numpy(positions), device), probabilities, self.tokens, self.weight)


def make_ridge(
    params: TeacherParams, texts: list[str], train: Ragged, words: Ragged | None, device: torch.device = CPU
) -> Ridge | None:
    """Fits the regression that `params` describe; None if distillation is off.

    Args:
        params: settings of the distillation and the regression.
        texts: the identifier of item i + 1, as prompts contain it.
        train: row u holds the train items of user u, counted from 1.
        words: row w holds the items whose titles contain word w; None ignores titles.
        device: the device of the regression.

    Raises:
        ParamsError: the catalogue is too large for a dense matrix.
    """
    if not params.is_enabled:
        return None
    if not params.ridge.allows(len(texts)):
        raise ParamsError(
            f"pretrain.teacher with {len(texts):,} items",
            f"at most {params.ridge.max_items:,} (teacher.ridge.max_items)",
            "set distillation_weight and embedding_distillation_steps to 0, or raise the limit",
        )  # fmt: skip
    return Ridge(item_weights(train, words, len(texts), params.ridge, device), params.ridge)


def item_token_ids(tokens: VIP5Tokenizer, texts: list[str]) -> npt.NDArray[np.int64]:
    """(I,) token id of each item.

    Raises:
        ParamsError: an identifier has several tokens.
    """
    ids = [tokens.tokenizer.token_to_id(text) for text in texts]
    if not len(tokens.identifier_ids) or None in ids:
        raise ParamsError(
            "pretrain.teacher with identifiers of several tokens", "identifiers.scheme: token", "change one of them"
        )
    return np.array(ids, np.int64)
