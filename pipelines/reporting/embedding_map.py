"""Clusters the catalogue's photo features and projects them to a plane.

Reads features (I, D) per item. Returns clusters with their most typical items, and positions on a plane.
Trade-off: k-means and the first two principal components are exact, fast and repeatable; t-SNE or UMAP would separate
clusters more clearly but distort the distances between them.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from features.item_codes.residual_kmeans import kmeans
from features.store.embeddings import unit_rows

MOST_ITEMS = 4000
WIDTH, HEIGHT, MARGIN = 1000, 640, 30
COLUMNS, ROWS = 10, 7


@dataclass(frozen=True, kw_only=True)
class Group:
    """A cluster of items: `typical` are the nearest to the centroid, nearest first; all are item ids."""

    number: int
    items: list[int]
    typical: list[int]


def grouped(item_ids: np.ndarray, vectors: np.ndarray, *, num_groups: int, shown: int, seed: int) -> list[Group]:
    """Clusters items into at most `num_groups` groups, ordered so that similar groups are adjacent.

    Args:
        item_ids: (I,) ids of items with a photo in use.
        vectors: (I, D) their features.
        num_groups: K of the k-means.
        shown: Number of typical items per group.
        seed: Seed of the k-means.

    Example:
        Items 1, 2, 3 with features (1, 0), (.9, .1), (0, 1) in two groups: [1, 2] and [3], or the other way round.
    """
    if not len(item_ids) or not num_groups:
        return []
    rows = unit_rows(vectors.astype(np.float64))
    labels = kmeans(rows, min(num_groups, len(rows)), seed, "data_report")
    used_labels = sorted(set(labels.tolist()))
    centres = np.stack([rows[labels == label].mean(axis=0) for label in used_labels])
    groups = []
    for number, place in enumerate(_walk(centres)):
        members = np.flatnonzero(labels == used_labels[place])
        distances = ((rows[members] - centres[place]) ** 2).sum(axis=1)
        nearest = members[np.argsort(distances, kind="stable")]
        items = item_ids[nearest].tolist()
        groups.append(Group(number=number, items=sorted(items), typical=items[:shown]))
    return groups


def _walk(centres: np.ndarray) -> list[int]:
    """All rows, beginning with the first, each followed by the nearest remaining row."""
    left, order = set(range(1, len(centres))), [0]
    while left:
        distances = ((centres - centres[order[-1]]) ** 2).sum(axis=1)
        order.append(min(left, key=lambda place: (distances[place], place)))
        left.remove(order[-1])
    return order


def commonest(items: Sequence[int], categories: Mapping[int, str | None]) -> tuple[str, int] | None:
    """The most common category of `items` and its count; None if no item has a category."""
    counts = Counter(category for item in items if (category := categories[item]))
    return min(counts.items(), key=lambda pair: (-pair[1], pair[0])) if counts else None


def plane(vectors: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Positions (I, 2) in the drawing, and the share of variance explained by each of the two axes.

    Projects to the first two principal components; the central 98 % of each axis fill the drawing.
    """
    if len(vectors) < 2:
        return np.full((len(vectors), 2), (WIDTH / 2, HEIGHT / 2)), [0.0, 0.0]
    rows = unit_rows(vectors.astype(np.float64))
    rows -= rows.mean(axis=0)
    values, axes = np.linalg.eigh(rows.T @ rows)  # ascending
    chosen = axes[:, :-3:-1]
    chosen = chosen * np.sign(chosen[np.abs(chosen).argmax(axis=0), np.arange(chosen.shape[1])])  # fixes the signs
    flat = rows @ chosen
    low, high = np.quantile(flat, 0.01, axis=0), np.quantile(flat, 0.99, axis=0)
    share = np.clip((flat - low) / np.maximum(high - low, 1e-12), 0, 1)
    size = np.array([WIDTH, HEIGHT]) - 2 * MARGIN
    total = max(float(values.sum()), 1e-12)
    return MARGIN + share * size, [round(max(float(value), 0.0) / total, 3) for value in values[:-3:-1]]


def pictured(places: np.ndarray) -> list[int]:
    """The rows of `places` (I, 2) whose photos the map shows: the one nearest to the centre of each grid cell."""
    cell = np.array([WIDTH / COLUMNS, HEIGHT / ROWS])
    best: dict[tuple[int, int], tuple[float, int]] = {}
    for row, place in enumerate(places):
        column, line = (int(part) for part in np.minimum(place // cell, (COLUMNS - 1, ROWS - 1)))
        middle = (np.array([column, line]) + 0.5) * cell
        candidate = (float(((place - middle) ** 2).sum()), row)
        best[column, line] = min(best.get((column, line), candidate), candidate)
    return sorted(row for _, row in best.values())
