"""Spectral item embeddings: accuracy of the decomposition, seeds, items without users."""

import numpy as np
import pytest
import torch

from modeling.collaborative.spectral import leading_directions, normalised, spectral_embeddings
from modeling.data.ragged import Ragged

NUM_USERS, NUM_ITEMS, WIDTH = 700, 300, 64


@pytest.fixture(scope="module")
def train() -> Ragged:
    """Users with a taste for one of 20 groups of items."""
    generator = np.random.default_rng(5)
    rows = []
    for user in range(NUM_USERS):
        group = np.arange(1 + user % 20, NUM_ITEMS + 1, 20)
        others = generator.integers(1, NUM_ITEMS + 1, 4)
        rows.append(np.unique(np.concatenate([generator.choice(group, 5), others])))
    return Ragged.from_rows(rows)


def test_singular_values_agree_with_a_dense_decomposition(train: Ragged) -> None:
    values, _ = leading_directions(train, NUM_ITEMS, WIDTH, seed=1)
    dense = np.linalg.svd(normalised(train, NUM_ITEMS).to_dense().double().numpy(), compute_uv=False)
    leading = int(0.9 * WIDTH)
    np.testing.assert_allclose(values[:leading], dense[:leading], rtol=1e-3)


def test_directions_are_orthonormal_and_reach_their_values(train: Ragged) -> None:
    values, right = leading_directions(train, NUM_ITEMS, WIDTH, seed=1)
    np.testing.assert_allclose(right.T @ right, np.eye(WIDTH), atol=1e-4)
    reached = torch.sparse.mm(normalised(train, NUM_ITEMS), torch.from_numpy(right)).norm(dim=0).numpy()
    np.testing.assert_allclose(reached, values, rtol=1e-3)


def test_the_seed_determines_the_vectors_and_no_other_draw(train: Ragged) -> None:
    torch.manual_seed(3)
    first = spectral_embeddings(train, NUM_ITEMS, WIDTH, seed=1)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(1), drawn)
    np.testing.assert_array_equal(first, spectral_embeddings(train, NUM_ITEMS, WIDTH, seed=1))
    assert not np.array_equal(first, spectral_embeddings(train, NUM_ITEMS, WIDTH, seed=2))


@pytest.mark.parametrize("rows", [[], [[]], [[2]], [[1, 2], [2, 3]]])
def test_a_matrix_smaller_than_the_width_gives_unit_vectors(rows: list[list[int]]) -> None:
    vectors = spectral_embeddings(Ragged.from_rows(rows), 5, 8, seed=1)
    assert vectors.shape == (5, 8)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1.0, rtol=1e-5)
