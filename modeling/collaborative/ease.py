"""Item-item ridge regression in closed form (EASE; Steck 2019), as a baseline and as a teacher.

Reads the train items of users and, optionally, the items of title words; returns an item-item weight matrix.
Trade-off: the matrix is dense, I x I float32 (0.6 GB and 1 to 2 minutes of one core at 12,000 items), which limits the
size of the catalogue. The zero diagonal stops an item from predicting itself, so scores on training users are not
memorised, which makes the model suitable as a teacher.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int, Int64
from torch import Tensor

from modeling.config.model import RidgeParams
from modeling.data.ragged import Ragged
from modeling.data.user_histories import UserHistories
from modeling.runtime.devices import CPU, to_device

_ENTRIES = 2048  # entries of the user-item matrix per block


def item_weights(
    train: Ragged, words: Ragged | None, num_items: int, params: RidgeParams, device: torch.device = CPU
) -> Float32[Tensor, "I I"]:
    """Weights from item i to item j, with a zero diagonal.

    With P = (X' X + w W' W + penalty)^-1 of users X and words W, weight ij is -P_ij / P_jj.

    Args:
        train: row u holds the train items of user u, from 1.
        words: row w holds the items whose titles contain word w; None ignores titles.
        num_items: I.
        params: the penalty and the weight of title words.
        device: the device of the inversion and of the result.
    """
    gram = _shared(train, num_items)
    if words is not None and params.word_weight:
        gram += params.word_weight * _shared(words, num_items)
    gram.diagonal().add_(params.penalty)
    gram = gram.to(device)
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(gram))
    weights = inverse.div_(-inverse.diagonal().clone())
    return weights.fill_diagonal_(0.0)


def _shared(rows: Ragged, num_items: int) -> Float32[Tensor, "I I"]:
    """Number of rows that contain items i and j; repeated items count once per row."""
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


def decayed_sums(vectors: Float[Tensor, "I D"], histories: Ragged, decay: float) -> Float[Tensor, "B D"]:
    """Sums of the item vectors of each history, with weights that decay with age."""
    weights = (decay**histories.from_the_end).astype(np.float32)
    return F.embedding_bag(
        to_device(torch.from_numpy(histories.values.astype(np.int64) - 1), vectors.device),
        vectors,
        to_device(torch.from_numpy(histories.offsets[:-1]), vectors.device),
        mode="sum",
        per_sample_weights=to_device(torch.from_numpy(weights), vectors.device),
    )


class Ridge:
    """A fitted regression that scores items for histories."""

    def __init__(self, weights: Float32[Tensor, "I I"], params: RidgeParams) -> None:
        self.weights, self.params = weights, params

    def scores(self, histories: Ragged, rows: Int[np.ndarray, "B"]) -> Float32[Tensor, "B I"]:
        """Scores of all items for the histories `rows`, newest item last; higher is better."""
        selected = histories.take(rows)
        return decayed_sums(self.weights, selected, self.params.decay)

    def probabilities(self, histories: Ragged, rows: Int[np.ndarray, "B"]) -> Float32[Tensor, "B I"]:
        """Probabilities of unseen items: normalised powers of the positive scores; zeros if there are none."""
        selected = histories.take(rows)
        scores = self.scores(histories, rows).clamp_(min=0)
        scores[torch.from_numpy(selected.owners), torch.from_numpy(selected.values.astype(np.int64) - 1)] = 0
        scores.div_(scores.amax(1, keepdim=True).clamp(min=1e-9)).pow_(self.params.inverse_temperature)
        return scores.div_(scores.sum(1, keepdim=True).clamp(min=1e-9))


def ridge_scorer(
    histories: UserHistories, words: Ragged | None, num_items: int, params: RidgeParams
) -> Callable[[Int64[np.ndarray, "B"]], Float32[np.ndarray, "B I"]]:
    """Creates the baseline: a function that scores all items for users by their known items."""
    ridge = Ridge(item_weights(histories.train, words, num_items, params), params)

    def score(user_ids: Int64[np.ndarray, "B"]) -> Float32[np.ndarray, "B I"]:
        scores: Float32[np.ndarray, "B I"] = ridge.scores(histories.known, user_ids).numpy()
        return scores

    return score
