"""Item codes: residual k-means on content features, recursive spectral clustering of co-purchases.

Reads feature rows per item and the purchases of the train split. Returns a tuple of small integers per item.
Trade-off: float64 with named seeds, which is repeatable; 100,000 items with 128 centres take minutes.
"""

import warnings
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from features.runtime.seeds import rng
from features.store.embeddings import unit_rows

if TYPE_CHECKING:
    import scipy.sparse as sp

_START_ROWS = 2048
_STARTS = 4
_START_ITERATIONS = 5
_DENSE = 1000  # maximum items for a full SVD: Lanczos iteration may miss one of several equal singular values


def kmeans(rows: np.ndarray, num_clusters: int, seed: int, *names: object, iterations: int = 50) -> np.ndarray:
    """Cluster labels (N,) of Lloyd's k-means with k-means++ initialisation (Arthur and Vassilvitskii, 2007).

    The initial centres are the best of `_STARTS` draws among at most `_START_ROWS` random distinct rows, since SciPy's
    initialisation takes time in the square of `num_clusters`. A cluster that becomes empty keeps its centre.

    Args:
        rows: Float64 points (N, D).
        num_clusters: K; if K is at least the number of distinct rows, each distinct row is its own cluster.
        seed: The run's seed.
        names: Name of the random stream.
        iterations: Maximum number of iterations; stops early if no label changes.

    Example:
        >>> kmeans(np.array([[0.0], [0.1], [9.0]]), 2, 0, "doctest").tolist() in ([0, 0, 1], [1, 1, 0])
        True
    """
    from scipy.cluster.vq import kmeans2, vq

    distinct, labels = np.unique(rows, axis=0, return_inverse=True)
    if len(distinct) <= num_clusters:
        return np.asarray(labels)
    generator = rng(seed, "kmeans", *names)
    start = distinct[generator.permutation(len(distinct))[:_START_ROWS]]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "One of the clusters is empty")
        starts = [
            kmeans2(start, num_clusters, iter=_START_ITERATIONS, minit="++", rng=generator)[0] for _ in range(_STARTS)
        ]
        centres = min(starts, key=lambda chosen: float(np.square(vq(start, chosen)[1]).sum()))
        labels = np.full(len(rows), -1)
        for _ in range(iterations):
            centres, nearest = kmeans2(rows, centres, iter=1, minit="matrix", check_finite=False)
            if np.array_equal(nearest, labels):
                break
            labels = nearest
    return labels


def residual_codes(rows: np.ndarray, levels: int, codebook_size: int, seed: int, iterations: int = 50) -> np.ndarray:
    """Codes (N, levels) by residual quantisation: each level clusters the residuals of the previous level.

    Source: residual quantisation as in RQ-VAE item codes (Rajput et al., 2023), with k-means in place of a network.
    """
    rest = rows.astype(np.float64)
    codes = np.zeros((len(rows), levels), np.int64)
    for level in range(levels):
        codes[:, level] = kmeans(rest, codebook_size, seed, "residual", level, iterations=iterations)
        for code in np.unique(codes[:, level]):
            members = codes[:, level] == code
            rest[members] -= rest[members].mean(axis=0)
    return codes


def with_collisions_resolved(codes: np.ndarray) -> tuple[np.ndarray, int]:
    """Appends a column to `codes` (N, L) that numbers rows with equal codes 0, 1, ... in row order.

    Returns:
        The unique codes (N, L + 1), and the number of rows that share their first L codes with an earlier row.

    Example:
        >>> with_collisions_resolved(np.array([[3, 1], [3, 1], [0, 2]]))[0].tolist()
        [[3, 1, 0], [3, 1, 1], [0, 2, 0]]
    """
    seen: defaultdict[tuple[int, ...], int] = defaultdict(int)
    last = np.zeros(len(codes), np.int64)
    for row, code in enumerate(map(tuple, codes.tolist())):
        last[row] = seen[code]
        seen[code] += 1
    return np.column_stack([codes, last]), int((last > 0).sum())


def hierarchical_codes(
    affinity: "sp.csr_matrix", levels: int, codebook_size: int, seed: int, iterations: int = 50
) -> np.ndarray:
    """Codes (N, levels) by recursive spectral clustering of a symmetric item-item `affinity` (N, N).

    Clusters of more than `codebook_size` items are split again, down to `levels`; smaller ones number their items.
    Source: collaborative indexing of Hua et al. (2023), section 4.
    """
    codes = np.zeros((affinity.shape[0], levels), np.int64)
    todo = [(np.arange(affinity.shape[0]), 0)]
    while todo:
        members, level = todo.pop()
        if level == levels or len(members) < 2:
            continue
        if len(members) <= codebook_size:
            codes[members, level] = np.arange(len(members))
            continue
        inner = affinity[members][:, members]
        embedded = spectral_rows(inner, min(codebook_size, len(members) - 2), seed, level, int(members[0]))
        name = ("hierarchical", level, int(members[0]))
        labels = kmeans(embedded, codebook_size, seed, *name, iterations=iterations)
        codes[members, level] = labels
        todo += [(members[labels == label], level + 1) for label in np.unique(labels)]
    return codes


def co_purchases(users: np.ndarray, items: np.ndarray, num_items: int) -> "sp.csr_matrix":
    """Number of users who bought both items (I, I), symmetric, with a zero diagonal.

    Args:
        users: User of each interaction (N,), train split only.
        items: Item row of each interaction (N,), 0 to `num_items` - 1.
        num_items: I, the size of the catalogue.

    Example:
        Users [1, 1, 2] with items [0, 2, 1]: entry (0, 2) and (2, 0) are 1, all others 0.
    """
    import scipy.sparse as sp

    _, rows = np.unique(users, return_inverse=True)
    shape = (int(rows.max(initial=-1)) + 1, num_items)
    bought = sp.csr_matrix((np.ones(len(items)), (rows, items)), shape=shape)
    bought.data[:] = 1.0  # repeated purchases count once
    counts = bought.T @ bought
    together = sp.csr_matrix(counts - sp.diags_array(counts.diagonal()))
    together.eliminate_zeros()
    return together


def spectral_rows(affinity: "sp.csr_matrix", width: int, seed: int, *names: object) -> np.ndarray:
    """Rows (N, width): the leading singular vectors of the normalised affinity, each row scaled to length 1.

    An item without neighbours gets a zero row.

    Source: normalised spectral clustering (Ng, Jordan and Weiss, 2001); signs are fixed by the largest entry.
    """
    import scipy.sparse as sp
    from scipy.sparse.linalg import svds

    size = affinity.shape[0]
    width_found = min(width, size - 1)
    if width_found < 1 or affinity.nnz == 0:
        return np.zeros((size, max(width, 1)))
    degrees = np.asarray(affinity.sum(axis=1)).ravel()
    scale = sp.diags_array(1 / np.sqrt(np.where(degrees > 0, degrees, np.inf)))
    normalised = scale @ affinity @ scale
    if size <= _DENSE:
        left, values, _ = np.linalg.svd(normalised.toarray())
    else:
        start = rng(seed, "spectral", *names).normal(size=size)
        left, values, _ = svds(normalised, k=width_found, v0=start, solver="arpack")
    order = np.argsort(-values, kind="stable")[:width_found]
    vectors = left[:, order]
    signs = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(width_found)])
    rows = np.zeros((size, width))
    rows[:, :width_found] = np.where(values[order] > 1e-9, vectors * np.where(signs == 0, 1, signs), 0)
    return unit_rows(np.where(np.abs(rows) < 1e-9, 0, rows))


def blocks(parts: Sequence[tuple[np.ndarray, float]]) -> np.ndarray:
    """Concatenates feature blocks, each centred on the items that have it and scaled to mean squared length `weight`.

    Zero rows of a block (no photo, no title, never bought) are placed at the block's mean, so they are neutral.

    Args:
        parts: (rows (N, D_k), weight) of each block.
    """
    scaled = []
    for rows, weight in parts:
        present = np.any(rows != 0, axis=1)
        block = np.zeros(rows.shape, np.float64)
        if present.any() and weight > 0:
            block[present] = rows[present] - rows[present].mean(axis=0, dtype=np.float64)
            length = np.sqrt((block[present] ** 2).sum(axis=1).mean())
            block *= np.sqrt(weight) / length if length > 0 else 0.0
        scaled.append(block)
    return np.hstack(scaled)
