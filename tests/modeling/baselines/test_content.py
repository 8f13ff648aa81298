"""Content baselines: BM25 values by hand, nearest embeddings, missing content."""

import math

import numpy as np
import pytest

from modeling.baselines.content import NEWEST, nearest, title_bm25
from modeling.data.user_histories import UserHistories, known_before_test
from tests.modeling.baselines.test_counting import SEQUENCES, interactions

TITLES = ["Red drum", "Blue drum kit", None, "Red shoe", "kit", "drum drum"]


@pytest.fixture
def histories() -> UserHistories:
    return known_before_test(interactions(SEQUENCES))


def test_bm25_is_the_formula(histories: UserHistories) -> None:
    scorer = title_bm25(histories, TITLES)
    assert scorer is not None
    words = [(title or "").lower().split() for title in TITLES]
    mean = sum(map(len, words)) / 6

    def weight(word: str, title: list[str]) -> float:
        found = sum(word in other for other in words)
        idf, tf = math.log(1 + (6 - found + 0.5) / (found + 0.5)), title.count(word)
        return idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * len(title) / mean)) if tf else 0.0

    asked = [word for item in [1, 2, 3, 4] for word in words[item - 1]]  # what user 1 has before the test item
    expected = [sum(weight(word, title) for word in asked) for title in words]
    np.testing.assert_allclose(scorer(np.array([2, 1]))[1], expected, rtol=1e-5)


def test_only_the_newest_titles_are_asked_for() -> None:
    items = list(range(1, NEWEST + 4))
    histories = known_before_test(interactions({1: items}))
    scorer = title_bm25(histories, [f"word{item}" for item in items])
    assert scorer is not None
    assert (np.flatnonzero(scorer(np.array([1]))[0]) + 1).tolist() == items[2:-1]


def test_without_content_there_is_no_rival(histories: UserHistories) -> None:
    assert title_bm25(histories, [None] * 6) is None
    assert nearest(histories, np.zeros((6, 3), np.float32), np.zeros(6, bool)) is None


def test_the_nearest_item_has_the_direction_of_the_known_ones(histories: UserHistories) -> None:
    vectors = np.array([[9, 1], [9, 1], [9, 1], [9, 1], [9, 0.5], [9, -3]], np.float32)  # 9: the common part
    present = np.array([True, True, True, True, True, False])
    scorer = nearest(histories, vectors, present)
    assert scorer is not None
    scores = scorer(np.array([1]))[0]
    assert scores[0] > scores[4] > scores[5]


def test_a_user_without_any_photo_gets_equal_scores() -> None:
    histories = known_before_test(interactions({1: [1, 1, 1, 2, 3]}))
    present = np.array([False, False, True, True])
    scorer = nearest(histories, np.array([[0, 0], [0, 0], [1, 0], [0, 1]], np.float32), present)
    assert scorer is not None
    scores = scorer(np.array([1]))[0]
    assert scores[2] == scores[3]
    assert (scores[:2] < scores[2]).all()
