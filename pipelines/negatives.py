"""Items that a user never had, drawn uniformly: the negatives of the table `candidates` and of training prompts.

Enters: a generator and the user's own items. Leaves: distinct item numbers.
Trade-off: a generator of its own for every user and split costs 20 microseconds, two thirds of a draw of 99, but a
user's draw then depends on nothing but the seed, the split and the user, whoever else is drawn and by which worker.
"""

from collections.abc import Sequence

import numpy as np


def unseen_items(generator: np.random.Generator, own: set[int], num_items: int, count: int) -> list[int]:
    """`count` distinct items outside `own`, uniformly drawn (all of them, shuffled, where there are fewer).

    Rejection where the catalogue is large, a permutation of the complement where it is not.
    """
    free = num_items - len(own)
    if free < 4 * count:
        complement = [item for item in range(1, num_items + 1) if item not in own]
        return [complement[index] for index in generator.permutation(len(complement))[:count].tolist()]
    chosen: dict[int, None] = {}
    while len(chosen) < count:
        for item in generator.integers(1, num_items + 1, size=_at_once(count)).tolist():
            if item not in own:
                chosen[item] = None
    return list(chosen)[:count]


def unseen_rows(
    generators: Sequence[np.random.Generator], own: np.ndarray, own_rows: np.ndarray, num_items: int, count: int
) -> tuple[np.ndarray, np.ndarray]:
    """What `unseen_items` draws with each generator in its first attempt, sorted, for all of them together.

    Args:
        generators: R of them.
        own: (M,) items that a row must not draw; each row must be left at least 4 x `count` others.
        own_rows: (M,) which row, from 0.
        num_items: items of the catalogue, numbered from 1.
        count: how many to draw, K.

    Returns:
        items (R, K), ascending in each row, and (R,) whether the first attempt sufficed; where not, a row is void.
    """
    num_rows, width = len(generators), _at_once(count)
    drawn = np.empty((num_rows, width), np.int64)
    for row, generator in enumerate(generators):
        drawn[row] = generator.integers(1, num_items + 1, size=width)
    keyed = np.sort(drawn * width + np.arange(width), axis=1)  # by item, then by place in the draw
    items, places = np.divmod(keyed, width)
    fresh = np.ones((num_rows, width), bool)
    fresh[:, 1:] = items[:, 1:] != items[:, :-1]
    flat = (items + np.arange(num_rows)[:, None] * (num_items + 1)).ravel()  # ascending: rows are ranges
    wanted = own + own_rows * (num_items + 1)
    at = np.minimum(np.searchsorted(flat, wanted), flat.size - 1)
    hit = at[flat[at] == wanted]
    fresh.ravel()[hit] = False  # of an item drawn twice the first occurrence is marked, the second was already
    in_draw = np.empty_like(fresh)
    np.put_along_axis(in_draw, places, fresh, axis=1)
    in_draw &= np.cumsum(in_draw, axis=1) <= count
    chosen = np.take_along_axis(in_draw, places, axis=1)
    enough = chosen.sum(axis=1) == count
    found = np.zeros((num_rows, count), np.int32)
    found[enough] = items[enough][chosen[enough]].reshape(-1, count)
    return found, enough


def _at_once(count: int) -> int:
    """Items drawn in one attempt: a fifth more than wanted, so that a large catalogue hardly ever needs another."""
    return count + 8 + count // 4
