import pytest

from features.seeds import rng
from pipelines.negatives import unseen_items
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
