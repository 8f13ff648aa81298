"""Do the users' numbers tell the answer: the rule "what those with neighbouring numbers bought".

Enters: histories and the number that prompts write for each user. Leaves: the rank of every test item under the rule.
Trade-off: three neighbours on each side, weighted by nearness, is one rule of many; it finds an order in which
neighbours share items (the published one of Beauty: HR@10 .07, thirty times chance), not every telling order.
"""

import numpy as np
import numpy.typing as npt

from features.runtime.seeds import rng
from modeling.data.ragged import Ragged
from modeling.data.user_histories import UserHistories

IntArray = npt.NDArray[np.int64]
REACH = 3


def neighbour_ranks(histories: UserHistories, numbers: IntArray) -> IntArray:
    """Ranks of the test items, users ascending, when items are scored by the train purchases of number neighbours.

    A neighbour at distance d gives each of its train items 1/d, d = 1 to 3 on both sides; known items are left out, and
    equal scores are ordered by item number. 0 where no neighbour has the test item.

    Args:
        histories: known, train and test items.
        numbers: (U + 1,) the number that prompts write, by user_id; place 0 is unused.
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


def by_chance(numbers: IntArray, seed: int) -> IntArray:
    """The same numbers dealt to other users, by the seed: what the rule finds where numbers mean nothing."""
    dealt = numbers.copy()
    dealt[1:] = rng(seed, "leakage", "user_numbers").permutation(numbers[1:])
    return dealt


def _keys(rows: Ragged, base: int) -> IntArray:
    keys: IntArray = rows.owners * base + rows.values
    return keys
