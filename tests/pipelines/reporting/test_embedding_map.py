import numpy as np
import pytest

from pipelines.reporting.embedding_map import HEIGHT, MARGIN, WIDTH, commonest, grouped, pictured, plane


def clusters(seed: int = 0) -> np.ndarray:
    """Sixty features around three corners, twenty each in turn."""
    centres = np.eye(3)[np.arange(60) % 3]
    return centres + np.random.default_rng(seed).normal(0, 0.02, (60, 3))


def test_groups_hold_what_lies_together_and_every_item_once():
    item_ids = np.arange(1, 61)
    found = grouped(item_ids, clusters(), num_groups=3, shown=4, seed=1)
    assert {tuple(group.items) for group in found} == {tuple(range(first, 61, 3)) for first in (1, 2, 3)}
    assert [group.number for group in found] == [0, 1, 2]
    assert all(len(group.typical) == 4 and set(group.typical) <= set(group.items) for group in found)


def test_the_typical_item_is_the_nearest_to_the_middle():
    vectors = np.array([[1.0, 0.3], [1.0, 0.0], [1.0, -0.3], [-1.0, 0.0]])
    first = next(group for group in grouped(np.arange(4), vectors, num_groups=2, shown=1, seed=0) if 0 in group.items)
    assert (first.items, first.typical) == ([0, 1, 2], [1])


def test_neighbouring_groups_stand_beside_each_other():
    angles = np.repeat(np.array([0.0, 1.2, 0.3, 1.5, 0.6, 0.9]), 3)
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    order = [angles[group.items[0]] for group in grouped(np.arange(18), vectors, num_groups=6, shown=1, seed=0)]
    steps = np.abs(np.diff(order))
    assert np.sort(steps)[:4] == pytest.approx(0.3)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_few_items_make_few_groups_and_a_map(count):
    vectors = np.eye(5)[:count]
    groups = grouped(np.arange(count), vectors, num_groups=12, shown=8, seed=0)
    assert sorted(item for group in groups for item in group.items) == list(range(count))
    places, shares = plane(vectors)
    assert places.shape == (count, 2)
    assert len(shares) == 2
    assert len(pictured(places)) <= count


def test_the_map_keeps_near_items_near_and_stays_inside():
    vectors = clusters()
    places, shares = plane(vectors)
    assert (places >= MARGIN).all()
    assert (places <= np.array([WIDTH, HEIGHT]) - MARGIN).all()
    own = np.stack([places[first::3] for first in range(3)])
    spread = own.std(axis=1).max()
    middles = own.mean(axis=1)
    assert min(np.linalg.norm(middles[a] - middles[b]) for a, b in ((0, 1), (0, 2), (1, 2))) > 5 * spread
    assert sum(shares) > 0.95
    again, _ = plane(vectors[::-1])
    np.testing.assert_allclose(again[::-1], places, atol=1e-6)


def test_a_map_shows_one_photo_a_cell():
    places = np.array([[50.0, 45.0], [52.0, 46.0], [950.0, 600.0], [951.0, 620.0], [1000.0, 640.0]])
    assert pictured(places) == [0, 2]


def test_the_commonest_category_is_found():
    categories = {1: "kettle", 2: "lamp", 3: "lamp", 4: None}
    assert commonest([1, 2, 3, 4], categories) == ("lamp", 2)
    assert commonest([1, 2], categories) == ("kettle", 1)
    assert commonest([4], categories) is None
