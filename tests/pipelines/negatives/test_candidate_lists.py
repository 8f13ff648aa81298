"""Candidate lists: complete, distinct, unseen, uniform, and each row determined by its key."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.runtime.seeds import words
from pipelines.negatives.candidate_lists import drawn_lists, shuffled_lists

KEYS = words(np.array([5], dtype=np.uint64), 4000)[0]


@given(
    num_items=st.integers(1, 60), size=st.integers(2, 30), own=st.lists(st.integers(1, 60), min_size=1, max_size=50),
    seed=st.integers(0, 2**40),
)  # fmt: skip
def test_a_list_is_the_target_and_distinct_unseen_items(num_items: int, size: int, own: list[int], seed: int) -> None:
    items = np.array(sorted({1 + item % num_items for item in own}))
    keys = np.arange(seed, seed + 3, dtype=np.uint64)
    targets = np.repeat(items[:1], 3).astype(np.int32)
    lists = drawn_lists(keys, targets, np.zeros(3, np.int64), bought_by_user=[items], num_items=num_items, size=size)
    assert len(lists) == 3
    for candidates in lists:
        assert len(set(candidates.tolist())) == len(candidates) == min(size, num_items - len(items) + 1)
        assert set(candidates.tolist()) & set(items.tolist()) == {items[0]}
        assert 1 <= candidates.min() <= candidates.max() <= num_items


@pytest.mark.parametrize("num_items", [40, 4_000, 20_000_000])
def test_a_row_does_not_depend_on_the_rows_beside_it(num_items: int) -> None:
    own = [np.array([7, 9]), np.array([3]), np.array([1, 2, 40])]
    users, targets = np.array([0, 0, 1, 2]), np.array([7, 9, 3, 40], dtype=np.int32)
    whole = drawn_lists(KEYS[:4], targets, users, bought_by_user=own, num_items=num_items, size=30)
    for row, user in enumerate(users):
        one = slice(row, row + 1)
        [alone] = drawn_lists(
            KEYS[one], targets[one], np.zeros(1, np.int64), bought_by_user=[own[user]], num_items=num_items, size=30
        )
        assert alone.tolist() == whole[row].tolist()


def test_items_and_the_place_of_the_target_are_uniform() -> None:
    """4,000 lists of 10 of 50 items: by chance a count leaves these bounds once in 10,000 tests."""
    targets = np.full(len(KEYS), 50, dtype=np.int32)
    users = np.zeros(len(KEYS), np.int64)
    lists = np.array(drawn_lists(KEYS, targets, users, bought_by_user=[np.array([50])], num_items=50, size=10))
    counts = np.bincount(lists[lists != 50], minlength=50)[1:]
    expected = len(KEYS) * 9 / 49
    assert counts.sum() == len(KEYS) * 9
    assert np.abs(counts - expected).max() < 5 * expected**0.5
    places = np.bincount(np.nonzero(lists == 50)[1], minlength=10)
    assert np.abs(places - 400).max() < 5 * 20
    first = np.bincount(lists[:, 0], minlength=51)[1:50]
    assert np.abs(first - 3600 / 49).max() < 5 * (3600 / 49) ** 0.5


def test_stored_negatives_are_shuffled_with_the_target() -> None:
    stored = [np.arange(1, 10, dtype=np.int32), np.arange(0, dtype=np.int32), np.arange(1, 10, dtype=np.int32)]
    lists = shuffled_lists(KEYS[:3], np.array([50, 60, 50], dtype=np.int32), stored)
    assert [sorted(entry.tolist()) for entry in lists] == [[*range(1, 10), 50], [60], [*range(1, 10), 50]]
    assert lists[0].tolist() != lists[2].tolist()
    many = np.array(shuffled_lists(KEYS, np.full(len(KEYS), 50, np.int32), [stored[0]] * len(KEYS)))
    places = np.array([np.bincount(column, minlength=51)[[1, 5, 50]] for column in many.T])
    assert np.abs(places - 400).max() < 5 * 20
