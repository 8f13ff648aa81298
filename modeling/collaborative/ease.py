"""A ridge regression from the items a user has to every other item, in closed form (EASE; Steck 2019).

Enters: train items by user, items by title word on request. Leaves: an item-item matrix; as a rival, scores of users;
as a teacher, what else a history speaks for.
Trade-off: a dense matrix, I x I float32 (0.6 GB and one or two minutes of one core at 12,000 items), so a catalogue may
be too large for it. An item is never told from itself, so what it says of train users is not what it has learned of
them by heart: the reason why it can teach.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from modeling.config.settings import RidgeParams
from modeling.data.ragged import Ragged
from modeling.data.user_histories import Histories
from modeling.runtime.devices import CPU, moved

_ENTRIES = 2048  # of the user-item matrix, handled at a time
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


def item_weights(
    train: Ragged, words: Ragged | None, num_items: int, params: RidgeParams, device: torch.device = CPU
) -> Tensor:
    """(I, I) float32: what item i says of item j; 0 on the diagonal.

    With P = (X' X + w W' W + penalty)^-1 of users X and words W, weight ij is -P_ij / P_jj.

    Args:
        train: row u: the train items of user u, from 1.
        words: row w: the items whose titles have word w; None leaves titles out.
        num_items: I.
        params: penalty and the weight of words.
        device: where the inverse is taken and the matrix stays.
    """
    gram = _shared(train, num_items)
    if words is not None and params.word_weight:
        gram += params.word_weight * _shared(words, num_items)
    gram.diagonal().add_(params.penalty)
    gram = gram.to(device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    weights = inverse.div_(-inverse.diagonal().clone())
    return weights.fill_diagonal_(0.0)


def _shared(rows: Ragged, num_items: int) -> Tensor:
    """(I, I) how many rows items i and j share, each row counting an item once."""
    shared = torch.zeros(num_items, num_items)
    start = 0
    while start < len(rows):
        stop = max(start + 1, int(np.searchsorted(rows.offsets, rows.offsets[start] + _ENTRIES, side="right")) - 1)
        part = rows.take(np.arange(start, stop))
        owner = torch.from_numpy(part.owners)
        has = torch.zeros(len(part), num_items)
        has[owner, torch.from_numpy(part.values.astype(np.int64) - 1)] = 1.0
        row, item = has.nonzero(as_tuple=True)
        shared.index_add_(0, item, has[row])
        start = stop
    return shared


def decayed_sums(vectors: Tensor, histories: Ragged, decay: float) -> Tensor:
    """(B, D) of each history the sum of its items' vectors (I, D), each weighing `decay` times the one after it."""
    weights = (decay**histories.from_the_end).astype(np.float32)
    return F.embedding_bag(
        moved(torch.from_numpy(histories.values.astype(np.int64) - 1), vectors.device),
        vectors,
        moved(torch.from_numpy(histories.offsets[:-1]), vectors.device),
        mode="sum",
        per_sample_weights=moved(torch.from_numpy(weights), vectors.device),
    )


class Ridge:
    """The weights with the histories they are asked about."""

    def __init__(self, weights: Tensor, params: RidgeParams) -> None:
        self.weights, self.params = weights, params

    def scores(self, histories: Ragged, rows: IntArray) -> Tensor:
        """(B, I) scores of all items after the histories `rows`, newest item last; higher is better."""
        taken = histories.take(rows)
        return decayed_sums(self.weights, taken, self.params.decay)

    def odds(self, histories: Ragged, rows: IntArray) -> Tensor:
        """(B, I) the scores above 0 of items that a history does not have, sharpened, as shares; zeros without any."""
        taken = histories.take(rows)
        found = self.scores(histories, rows).clamp_(min=0)
        found[torch.from_numpy(taken.owners), torch.from_numpy(taken.values.astype(np.int64) - 1)] = 0
        found.div_(found.amax(1, keepdim=True).clamp(min=1e-9)).pow_(self.params.sharpness)
        return found.div_(found.sum(1, keepdim=True).clamp(min=1e-9))


def ridge_scorer(
    histories: Histories, words: Ragged | None, num_items: int, params: RidgeParams
) -> Callable[[IntArray], FloatArray]:
    """The rival: scores by the items known before the test item."""
    ridge = Ridge(item_weights(histories.train, words, num_items, params), params)

    def score(user_ids: IntArray) -> FloatArray:
        found: FloatArray = ridge.scores(histories.known, user_ids).numpy()
        return found

    return score
