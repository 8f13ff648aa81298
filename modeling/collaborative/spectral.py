"""Spectral item embeddings: leading right singular vectors of the normalised user-item matrix.

Reads the train items of users; returns a unit vector per item. Items with common users have similar vectors.
Trade-off: randomised subspace iteration (Halko, Martinsson, Tropp 2011) by torch instead of Lanczos iteration, because
modeling does not depend on SciPy.
"""

import numpy as np
import torch
from jaxtyping import Float32

from features.runtime.seeds import rng, stable_hash
from modeling.data.ragged import Ragged

_OVERSAMPLING = 32
_ITERATIONS = 10  # singular values then agree with a dense decomposition within 1e-3 (a test)


def spectral_embeddings(
    train: Ragged, num_items: int, width: int, *, seed: int, words: Ragged | None = None
) -> Float32[np.ndarray, "{num_items} {width}"]:
    """Unit vectors of items 1 to I; items without users (and title words) get random vectors.

    An entry of the matrix is 1 / sqrt(users of the item x items of the user). All singular directions have equal weight
    (whitening), which predicted the next item better than weighting by singular values.

    Args:
        train: row u holds the train items of user u, from 1.
        num_items: number of items in the catalogue.
        width: width of a vector; directions beyond the rank of the matrix are zero before normalisation.
        seed: determines the initial basis and the vectors of items without users.
        words: row w holds the items whose titles contain word w; each word is treated as another user.
    """
    train = train if words is None else Ragged.concatenate([train, words])
    _, found = leading_directions(train, num_items, width, seed=seed)
    vectors = np.zeros((num_items, width), np.float32)
    vectors[:, : found.shape[1]] = found
    unseen = np.bincount(train.values, minlength=num_items + 1)[1:] == 0
    vectors[unseen] = rng(seed, "spectral").standard_normal((int(unseen.sum()), width))
    unit: Float32[np.ndarray, "I D"] = vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)
    return unit.astype(np.float32)


def leading_directions(
    train: Ragged, num_items: int, width: int, *, seed: int
) -> tuple[Float32[np.ndarray, "K"], Float32[np.ndarray, "I K"]]:
    """Singular values, descending, and right singular vectors of the matrix, K at most `width`."""
    matrix = normalised(train, num_items)
    rank = min(width, *matrix.shape)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(stable_hash(seed, "spectral") % 2**63)
        _, values, right = torch.svd_lowrank(matrix, q=min(rank + _OVERSAMPLING, *matrix.shape), niter=_ITERATIONS)
    return values[:rank].numpy(), right[:, :rank].numpy()


def normalised(train: Ragged, num_items: int) -> Float32[torch.Tensor, "U I"]:
    """The sparse matrix of 1 / sqrt(users of the item x items of the user); repeated items add up."""
    users, items = np.repeat(np.arange(len(train)), train.lengths), train.values.astype(np.int64) - 1
    weights = 1 / np.sqrt(np.bincount(items, minlength=num_items)[items] * train.lengths[users])
    places = torch.from_numpy(np.stack([users, items]))
    shape = (len(train), num_items)
    return torch.sparse_coo_tensor(places, torch.from_numpy(weights).float(), shape, check_invariants=False).coalesce()
