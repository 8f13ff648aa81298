"""Ridge regression: weights equal those of per-item regressions; probabilities cover unseen items only."""

import numpy as np
import pytest
import torch

from modeling.collaborative.ease import Ridge, item_weights, ridge_scorer
from modeling.config.model import RidgeParams
from modeling.data.ragged import Ragged
from modeling.data.user_histories import UserHistories

TRAIN = Ragged.from_rows([[], [1, 2, 3], [2, 3], [1, 4], [3, 2, 4], [5]])
WORDS = Ragged.from_rows([[1, 5], [2, 5]])
NUM_ITEMS = 6  # nobody bought item 6


def matrix(rows: Ragged) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    dense = np.zeros((len(rows), NUM_ITEMS))
    for row in range(len(rows)):
        dense[row, rows.row(row) - 1] = 1
    return dense


@pytest.mark.parametrize("word_weight", [0.0, 0.5])
def test_weights_are_those_of_a_regression_without_the_item(word_weight: float) -> None:
    params = RidgeParams(penalty=2.0, word_weight=word_weight)
    weights = item_weights(TRAIN, WORDS, NUM_ITEMS, params).numpy()
    seen = np.concatenate([matrix(TRAIN), np.sqrt(word_weight) * matrix(WORDS)])
    for item in range(NUM_ITEMS):
        others = np.delete(seen, item, 1)
        expected = np.linalg.solve(others.T @ others + 2.0 * np.eye(NUM_ITEMS - 1), others.T @ seen[:, item])
        np.testing.assert_allclose(np.delete(weights[:, item], item), expected, atol=1e-6)
        assert weights[item, item] == 0


def test_titles_relate_items_without_common_users() -> None:
    plain = item_weights(TRAIN, None, NUM_ITEMS, RidgeParams(penalty=2.0))
    titled = item_weights(TRAIN, WORDS, NUM_ITEMS, RidgeParams(penalty=2.0))
    assert plain[4].abs().sum() == 0
    assert titled[4, 0] > 0


def test_scores_decay_with_age() -> None:
    weights = torch.arange(36, dtype=torch.float32).view(6, 6)
    ridge = Ridge(weights, RidgeParams(decay=0.5))
    scores = ridge.scores(Ragged.from_rows([[], [2, 4], [6]]), np.array([1, 0, 2]))
    torch.testing.assert_close(scores[0], 0.5 * weights[1] + weights[3])
    assert not scores[1].any()
    torch.testing.assert_close(scores[2], weights[5])


def test_probabilities_are_over_unseen_items() -> None:
    ridge = Ridge(item_weights(TRAIN, None, NUM_ITEMS, RidgeParams(penalty=2.0)), RidgeParams())
    probabilities = ridge.probabilities(TRAIN, np.array([1, 2, 5]))
    torch.testing.assert_close(probabilities.sum(1), torch.tensor([1.0, 1.0, 0.0]))
    assert (probabilities >= 0).all()
    assert not probabilities[0, :3].any()
    assert not probabilities[1, 1:3].any()
    plain = Ridge(ridge.weights, RidgeParams(inverse_temperature=1.0)).probabilities(TRAIN, np.array([2]))[0]
    torch.testing.assert_close(probabilities[1], plain**4 / (plain**4).sum())


def test_the_baseline_reads_known_items_and_fits_train_only() -> None:
    known = Ragged.from_rows([[], [1, 2, 3, 5], [2, 3], [1, 4], [3, 2, 4], [5]])
    histories = UserHistories(known=known, train=TRAIN, targets=np.zeros(6, np.int64))
    params = RidgeParams(penalty=2.0, decay=1.0)
    scores = ridge_scorer(histories, None, NUM_ITEMS, params)(np.array([1, 2]))
    weights = item_weights(TRAIN, None, NUM_ITEMS, params).numpy()
    np.testing.assert_allclose(scores[0], weights[[0, 1, 2, 4]].sum(0), atol=1e-6)
    np.testing.assert_allclose(scores[1], weights[[1, 2]].sum(0), atol=1e-6)


@pytest.mark.parametrize("bad", [{"penalty": 0.0}, {"word_weight": -1.0}, {"decay": 0.0}, {"decay": 1.5}])
def test_settings_out_of_range_are_rejected(bad: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="penalty must be above 0"):
        RidgeParams(**bad)  # type: ignore[arg-type]
