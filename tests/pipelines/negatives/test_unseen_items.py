import numpy as np
import pytest

from features.runtime.seeds import rng, stable_hash
from pipelines.negatives.unseen_items import unseen_items, unseen_rows
from tests.pipelines.prompt_tables import NUM_ITEMS


@pytest.mark.parametrize(
    ("num_items", "own", "count"), [(NUM_ITEMS, {1, 2, 3}, 99), (5000, {7, 9}, 99), (5, {1, 2}, 99)]
)
def test_unseen_items_are_distinct_and_outside_the_users_own(num_items: int, own: set[int], count: int) -> None:
    found = unseen_items(rng(3), own, num_items, count)
    assert len(set(found)) == len(found) == min(count, num_items - len(own))
    assert not set(found) & own
    assert all(1 <= item <= num_items for item in found)


@pytest.mark.parametrize("num_items", [6, 60])
def test_every_unseen_item_is_drawn_equally_often(num_items: int) -> None:
    own = {1, 2}
    counts = dict.fromkeys(range(1, num_items + 1), 0)
    for draw in range(4000):
        for item in unseen_items(rng(3, draw), own, num_items, 2):
            counts[item] += 1
    expected = 4000 * 2 / (num_items - 2)
    assert counts.pop(1) == counts.pop(2) == 0
    assert all(abs(count - expected) < 5 * expected**0.5 for count in counts.values())


def rows_of(num_items: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys (300,), excluded items, and the row of each excluded item; row n excludes up to n modulo 40 items."""
    owns = [sorted({1 + stable_hash(row, n) % num_items for n in range(row % 40)}) for row in range(300)]
    keys = np.array([stable_hash(3, row) for row in range(300)], np.uint64)
    excluded = np.array([item for items in owns for item in items], np.int32)
    return keys, excluded, np.repeat(np.arange(300), [len(items) for items in owns])


@pytest.mark.parametrize("num_items", [400, 450, 3000, 10**6])
def test_rows_are_distinct_unseen_and_ascending(num_items: int) -> None:
    keys, excluded, rows = rows_of(num_items)
    found, done = unseen_rows(keys, excluded, rows, num_items, 90)
    assert done.mean() > (0.1 if num_items < 1000 else 0.95)
    assert found.shape == (300, 90)
    for row in np.flatnonzero(done):
        assert (np.diff(found[row]) > 0).all()
        assert found[row, 0] >= 1
        assert found[row, -1] <= num_items
        assert not set(found[row].tolist()) & set(excluded[rows == row].tolist())


def test_a_row_depends_only_on_its_key_and_its_items() -> None:
    keys, excluded, rows = rows_of(3000)
    found, done = unseen_rows(keys, excluded, rows, 3000, 90)
    for row in (0, 7, 39, 299):
        own = excluded[rows == row]
        alone, is_done = unseen_rows(keys[row : row + 1], own, np.zeros(len(own), int), 3000, 90)
        assert is_done[0] == done[row]
        assert not is_done[0] or alone[0].tolist() == found[row].tolist()


def test_rows_hold_every_unseen_item_equally_often() -> None:
    keys = np.array([stable_hash(5, row) for row in range(4000)], np.uint64)
    found, done = unseen_rows(keys, np.tile([1, 2], 4000), np.repeat(np.arange(4000), 2), 60, 12)
    counts = np.bincount(found[done].ravel(), minlength=61)
    expected = done.sum() * 12 / 58
    assert counts[:3].tolist() == [0, 0, 0]
    assert np.abs(counts[3:] - expected).max() < 5 * expected**0.5
