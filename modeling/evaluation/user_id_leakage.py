"""Detects leakage through user numbers with the rule "items that users with neighbouring numbers bought".

Reads histories and the user numbers in prompts; returns the rank of every test item under the rule. Trade-off: the rule
reads three neighbours on each side. It detects an order in which neighbours share items (the published order of Beauty:
HR@10 .07, thirty times chance), not every order that leaks.
"""

import numpy as np
import numpy.typing as npt

from features.runtime.seeds import rng
from modeling.data.ragged import Ragged
from modeling.data.user_histories import UserHistories

IntArray = npt.NDArray[np.int64]
REACH = 3  # neighbours on each side


def neighbour_ranks(histories: UserHistories, numbers: IntArray) -> IntArray:
    """Returns the ranks of the test items, users ascending, with items scored by the train purchases of neighbours.

    A neighbour at distance d (1 to 3, both sides) adds 1/d to each of its train items. Known items are masked and ties
    are ordered by item number. The rank is 0 if no neighbour has the test item.

    Args:
        histories: known, train and test items.
        numbers: (U + 1,) user number in prompts by user_id; index 0 is unused.
    """
    order = np.argsort(numbers[1:], kind="stable") + 1
    owners, items, weights = [], [], []
    for distance in range(1, min(REACH, len(order) - 1) + 1):
        for own, other in ((order[distance:], order[:-distance]), (order[:-distance], order[distance:])):
            bought = histories.train.take(other)
            owners.append(np.repeat(own, bought.lengths))
            items.append(bought.values)
            weights.append(np.full(len(bought.values), 1 / distance))
    users = np.flatnonzero(histories.targets > 0)
    if not owners:
        return np.zeros(len(users), np.int64)
    base = int(max(histories.targets.max(), histories.known.values.max(initial=0))) + 1
    keys, places = np.unique(np.concatenate(owners) * base + np.concatenate(items), return_inverse=True)
    scores = np.bincount(places, np.concatenate(weights))
    unseen = ~np.isin(keys, _keys(histories.known, base))
    keys, scores = keys[unseen], scores[unseen]
    ranked = np.lexsort((keys, -scores, keys // base))
    keys = keys[ranked]
    first = np.searchsorted(keys // base, users)
    wanted = np.isin(keys, users * base + histories.targets[users])
    ranks = np.zeros(len(numbers), np.int64)
    ranks[keys[wanted] // base] = np.flatnonzero(wanted) + 1
    ranked_at: IntArray = np.where(ranks[users] > 0, ranks[users] - first, 0)
    return ranked_at


def shuffled_numbers(numbers: IntArray, seed: int) -> IntArray:
    """Returns the numbers shuffled over users by the seed: the chance level of the rule."""
    shuffled = numbers.copy()
    shuffled[1:] = rng(seed, "leakage", "user_numbers").permutation(numbers[1:])
    return shuffled


def _keys(rows: Ragged, base: int) -> IntArray:
    keys: IntArray = rows.owners * base + rows.values
    return keys
