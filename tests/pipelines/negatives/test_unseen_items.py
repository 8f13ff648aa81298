import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.runtime.seeds import rng, stable_hash
from pipelines.negatives import seeded_draws
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


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20), st.integers(1, 2**32 - 2), st.integers(1, 40))
@settings(max_examples=150, deadline=None)
def test_many_generators_draw_what_numpys_draw_one_by_one(seeds: list[int], most: int, width: int) -> None:
    drawn, kept = seeded_draws.bounded(np.array(seeds, np.uint64), most, width)
    for seed, row, is_kept in zip(seeds, drawn, kept, strict=True):
        expected = np.random.Generator(np.random.PCG64(seed)).integers(1, most + 1, size=width)
        assert np.array_equal(row, expected) == is_kept


@pytest.mark.parametrize("num_items", [400, 450, 3000, 10**6])
def test_rows_drawn_together_are_those_drawn_one_by_one(num_items: int) -> None:
    owns = [sorted({1 + stable_hash(row, n) % num_items for n in range(row % 40)}) for row in range(300)]
    seeds = [stable_hash(3, row) for row in range(300)]
    own = np.array([item for items in owns for item in items], np.int32)
    own_rows = np.repeat(np.arange(300), [len(items) for items in owns])
    found, done = unseen_rows(np.array(seeds, np.uint64), own, own_rows, num_items, 90)
    assert done.mean() > (0.1 if num_items < 1000 else 0.95)
    for row in np.flatnonzero(done):
        assert found[row].tolist() == sorted(unseen_items(rng(3, row), set(owns[row]), num_items, 90))
