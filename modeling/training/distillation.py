"""Soft targets of next-item prompts: what the ridge regression would answer to the items that a prompt names.

Enters: train prompts, the train split's purchases, title words on request. Leaves: odds of all items by row.
Trade-off: the odds are made anew for every pass (a row of I numbers an item named) instead of being stored.

Why: one bought item out of thousands says little, and the items of train users are what the item vectors were made
from, so that a model of this size learns its users by heart before it learns the rule (docs/decisions/0026).
"""

import numpy as np
import numpy.typing as npt
import torch

from features.errors import ParamsError
from modeling.collaborative.ease import Ridge, item_weights
from modeling.config.settings import TeacherParams
from modeling.data.prompt_dataset import Corpus
from modeling.data.ragged import IntArray, Ragged
from modeling.data.tokenizer import Tokens
from modeling.models.targets import SoftTargets
from modeling.runtime.devices import CPU, moved


class Teacher:
    """Answers for the rows of one corpus.

    Args:
        corpus: train prompts.
        item_tokens: (I,) the one token of items 1 to I.
        ridge: the regression, on the device that trains.
        share: of the loss.
    """

    def __init__(self, corpus: Corpus, item_tokens: IntArray, ridge: Ridge, share: float) -> None:
        self.ridge, self.share = ridge, share
        self.tokens = torch.from_numpy(np.asarray(item_tokens, np.int64)).to(ridge.weights.device)
        item_of = np.zeros(max(corpus.tokens.size, int(item_tokens.max(initial=0)) + 1), np.int64)
        item_of[item_tokens] = np.arange(1, len(item_tokens) + 1)
        named = item_of[corpus.sources.values]
        self.named = Ragged(named, corpus.sources.offsets).keep(named > 0)
        self.answers = np.zeros(len(corpus), bool)
        rows = np.flatnonzero(self.named.lengths > 0)
        self.answers[corpus.next_item_rows(rows)] = True

    def soft(self, rows: IntArray, device: torch.device) -> SoftTargets | None:
        """For a batch of `rows` of the corpus; None where none of them asks for the next item."""
        places = np.flatnonzero(self.answers[rows])
        if not len(places):
            return None
        odds = self.ridge.odds(self.named, np.asarray(rows, np.int64)[places])
        return SoftTargets(moved(torch.from_numpy(places), device), odds, self.tokens, self.share)


def make_ridge(
    params: TeacherParams, texts: list[str], train: Ragged, words: Ragged | None, device: torch.device = CPU
) -> Ridge | None:
    """The regression that `params` describe; None where they ask for no teacher.

    Args:
        params: what it is for, and the regression.
        texts: the identifier of item i + 1 as a prompt writes it.
        train: row u: the train items of user u, from 1.
        words: row w: the items whose titles have word w; None leaves titles out.
        device: where it is made and stays.

    Raises:
        ParamsError: items are too many for a dense matrix.
    """
    if not params.is_asked:
        return None
    if not params.ridge.allows(len(texts)):
        raise ParamsError(
            f"pretrain.teacher with {len(texts):,} items",
            f"at most {params.ridge.max_items:,} (teacher.ridge.max_items)",
            "set share and vector_steps to 0, or raise the limit",
        )  # fmt: skip
    return Ridge(item_weights(train, words, len(texts), params.ridge, device), params.ridge)


def tokens_of_items(tokens: Tokens, texts: list[str]) -> npt.NDArray[np.int64]:
    """(I,) the one token of each item.

    Raises:
        ParamsError: items are not written as one token each.
    """
    ids = [tokens.tokenizer.token_to_id(text) for text in texts]
    if not len(tokens.identifier_ids) or None in ids:
        raise ParamsError("pretrain.teacher where an item is several tokens", "identifiers.scheme: token", "change one")
    return np.array(ids, np.int64)
