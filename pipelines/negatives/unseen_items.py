"""Uniform samples of items that a user never had: negatives for the table `candidates` and training prompts.

Reads a generator, or one 64-bit key per row, and the user's items. Returns distinct item ids.
Trade-off: `unseen_items` uses Python sets, 30 microseconds per sample of 99. `unseen_rows` hashes (key, position) for
thousands of rows in a tenth of the time per sample, and leaves rows that need more draws to `unseen_items`.
"""

import numpy as np

from features.runtime.seeds import below, words


def unseen_items(generator: np.random.Generator, bought: set[int], num_items: int, count: int) -> list[int]:
    """Samples `count` distinct items outside `bought` uniformly (all of them, shuffled, if there are fewer).

    Uses rejection sampling if the catalogue is large, else a permutation of the complement.
    """
    free = num_items - len(bought)
    if free < 4 * count:
        complement = [item for item in range(1, num_items + 1) if item not in bought]
        return [complement[index] for index in generator.permutation(len(complement))[:count].tolist()]
    chosen: dict[int, None] = {}
    while len(chosen) < count:
        for item in generator.integers(1, num_items + 1, size=at_once(count)).tolist():
            if item not in bought:
                chosen[item] = None
    return list(chosen)[:count]


def unseen_rows(
    keys: np.ndarray, excluded: np.ndarray, excluded_rows: np.ndarray, num_items: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """Samples `count` distinct items per row uniformly outside the row's excluded items, for many rows.

    A row takes the first distinct items among `at_once(count)` draws, and depends only on its key and excluded items.

    Args:
        keys: (R,) uint64.
        excluded: (M,) items excluded from a row; each row should have at least 4 x `count` other items.
        excluded_rows: (M,) row index of each excluded item.
        num_items: Number of items in the catalogue, numbered from 1.
        count: K, the number of items to sample.

    Returns:
        int32 items (R, K), ascending in each row, and (R,) whether the draws sufficed; other rows are undefined.
    """
    drawn = below(words(keys, at_once(count)), num_items).astype(np.int32) + np.int32(1)
    samples = np.sort(drawn[:, :count], axis=1)
    clean = np.logical_not(_refused(samples, excluded, excluded_rows, num_items).any(axis=1))
    rest = np.flatnonzero(~clean)
    retry_rows = np.full(len(keys), -1)
    retry_rows[rest] = np.arange(len(rest))
    mine = retry_rows[excluded_rows] >= 0
    samples[rest], enough = _first_fresh(drawn[rest], excluded[mine], retry_rows[excluded_rows[mine]], num_items, count)
    clean[rest] = enough
    return samples, clean


def _first_fresh(
    drawn: np.ndarray, excluded: np.ndarray, excluded_rows: np.ndarray, num_items: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """(R, K) the first K distinct items of each row that are not excluded, sorted, and whether there are K."""
    num_rows, width = drawn.shape
    keyed = np.sort(drawn.astype(np.int64) * width + np.arange(width), axis=1)  # by item, then by draw order
    items, places = np.divmod(keyed, width)
    fresh = ~_refused(items, excluded, excluded_rows, num_items)
    in_draw = np.empty_like(fresh)
    np.put_along_axis(in_draw, places, fresh, axis=1)
    in_draw &= np.cumsum(in_draw, axis=1) <= count
    chosen = np.take_along_axis(in_draw, places, axis=1)
    enough = chosen.sum(axis=1) == count
    samples = np.zeros((num_rows, count), np.int32)
    samples[enough] = items[enough][chosen[enough]].reshape(-1, count)
    return samples, enough


def _refused(items: np.ndarray, excluded: np.ndarray, excluded_rows: np.ndarray, num_items: int) -> np.ndarray:
    """(R, W) whether an item of ascending rows is a duplicate within its row or excluded."""
    refused = np.zeros(items.shape, bool)
    refused[:, 1:] = items[:, 1:] == items[:, :-1]
    begins = np.arange(len(items)) * (num_items + 1)
    flat = (items + begins[:, None]).ravel()  # globally ascending: each row has its own range
    wanted = excluded + excluded_rows * (num_items + 1)
    at = np.minimum(np.searchsorted(flat, wanted), flat.size - 1)
    refused.ravel()[at[flat[at] == wanted]] = True  # a second draw of an item is refused already
    return refused


def at_once(count: int) -> int:
    """Items drawn in one attempt: a quarter more than needed, so that large catalogues rarely need another."""
    return count + 8 + count // 4
