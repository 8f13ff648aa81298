"""Candidate lists: the target among sampled or stored negatives, shuffled.

Reads one 64-bit key per row, the target and the user's items. Returns an array of item ids per row, in text order.
Trade-off: random numbers come from a hash of (key, position) instead of one generator per row, so 100 candidates cost
under 10 microseconds instead of 100, and a row depends only on its key.
"""

from collections.abc import Sequence

import numpy as np

from features.runtime.seeds import below, words
from pipelines.negatives.unseen_items import unseen_items

_CELLS = 1 << 24  # of the Boolean users x items table of a block, 1 byte each
_WORDS = 1 << 20  # drawn at once


def drawn_lists(
    keys: np.ndarray,
    targets: np.ndarray,
    users: np.ndarray,
    *,
    bought_by_user: Sequence[np.ndarray],
    num_items: int,
    size: int,
) -> list[np.ndarray]:
    """Samples lists of `size` items: the target at a uniform position among distinct items that the user never had.

    Args:
        keys: uint64 (R,), one per row.
        targets: int32 (R,).
        users: int64 (R,), ascending: index of the row's user in `bought_by_user`.
        bought_by_user: Items of each user.
        num_items: Number of items in the catalogue, numbered from 1.
        size: Candidates per list, including the target; fewer if the catalogue has too few unseen items.
    """
    lists: list[np.ndarray] = []
    per_block = max(1, min(_CELLS // (num_items + 1), _WORDS // (2 * size)))
    bought = np.zeros((min(per_block, len(bought_by_user)), num_items + 1), dtype=bool)
    for first in range(0, len(bought_by_user), per_block):
        block = bought_by_user[first : first + per_block]
        for place, items in enumerate(block):
            bought[place, items] = True
        start, stop = np.searchsorted(users, [first, first + per_block])
        for begin in range(start, stop, per_block):
            rows = slice(begin, min(begin + per_block, stop))
            lists += _drawn_block(keys[rows], targets[rows], users[rows] - first, bought, size)
        for place, items in enumerate(block):
            bought[place, items] = False
    return lists


def _drawn_block(
    keys: np.ndarray, targets: np.ndarray, users: np.ndarray, bought: np.ndarray, size: int
) -> list[np.ndarray]:
    num_items, wanted = bought.shape[1] - 1, size - 1
    width = wanted + wanted // 4 + 16
    drawn = words(keys, width + 1)
    items = below(drawn[:, :width], num_items) + np.uint64(1)
    fresh = ~(bought[users[:, None], items] | _repeats(items))
    fresh &= np.cumsum(fresh, axis=1) <= wanted
    enough = fresh.sum(axis=1) == wanted
    negatives = items[enough][fresh[enough]].reshape(-1, wanted).astype(np.int32)
    lists = np.concatenate([negatives, np.zeros((len(negatives), 1), np.int32)], axis=1)
    row, place = np.arange(len(lists)), below(drawn[enough, width], size)
    lists[:, wanted] = lists[row, place]
    lists[row, place] = targets[enough]
    if enough.all():
        return list(lists)
    whole = iter(lists)
    bought_items = [set(np.flatnonzero(bought[user]).tolist()) for user in users[~enough]]
    scarce = iter(zip(keys[~enough], targets[~enough], bought_items, strict=True))
    return [next(whole) if is_whole else _scarce_list(*next(scarce), num_items, size) for is_whole in enough]


def _scarce_list(key: np.uint64, target: np.int32, bought: set[int], num_items: int, size: int) -> np.ndarray:
    """The list of one row that the vectorised attempt did not fill."""
    generator = np.random.Generator(np.random.PCG64([int(key), 1]))
    negatives = unseen_items(generator, bought, num_items, size - 1)
    return generator.permutation(np.array([*negatives, target], dtype=np.int32))


def _repeats(items: np.ndarray) -> np.ndarray:
    """Whether an item occurs earlier in its row, bool (R, W)."""
    bits = np.uint64(items.shape[1].bit_length())
    order = (items << bits) | np.arange(items.shape[1], dtype=np.uint64)
    order.sort(axis=1)
    row, place = np.nonzero((order[:, 1:] >> bits) == (order[:, :-1] >> bits))
    repeats = np.zeros(items.shape, dtype=bool)
    repeats[row, order[row, place + 1] & ((np.uint64(1) << bits) - np.uint64(1))] = True
    return repeats


def shuffled_lists(keys: np.ndarray, targets: np.ndarray, negatives: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Shuffles the stored negatives and the target of each row uniformly."""
    lists = [np.append(stored, target).astype(np.int32) for stored, target in zip(negatives, targets, strict=True)]
    lengths = np.array([len(entry) for entry in lists])
    for length in set(lengths.tolist()):
        rows = np.flatnonzero(lengths == length)
        order = np.argsort(words(keys[rows], length), axis=1)
        for row, places in zip(rows.tolist(), order, strict=True):
            lists[row] = lists[row][places]
    return lists
