"""Samples negatives by popularity: a harder candidate list for the direct task.

Reads train counts, known items and test items; returns the test item and unseen items per user. The lists are drawn
here instead of being stored in a table, because only the evaluation reads them.
"""

import numpy as np

from features.runtime.seeds import rng
from modeling.baselines.counting import IntArray
from modeling.data.user_histories import UserHistories


def popular_candidates(
    histories: UserHistories, user_ids: IntArray, counts: IntArray, *, num_negatives: int, seed: int
) -> IntArray:
    """Returns (N, 1 + num_negatives): the test item, then distinct unseen items, padded with 0.

    Items are sampled without replacement in proportion to their train interactions by the Gumbel top-k trick, so a
    ranking by popularity alone gains nothing. A user's sample depends only on the seed and the user.

    Args:
        histories: known and test items.
        user_ids: (N,) users to sample for.
        counts: (I,) train interactions of items 1 to I.
        num_negatives: number of negatives per user.
        seed: seed of the sampling.
    """
    with np.errstate(divide="ignore"):
        weights = np.log(counts.astype(np.float64))
    listed = np.zeros((len(user_ids), 1 + num_negatives), np.int64)
    listed[:, 0] = histories.targets[user_ids]
    num_kept = min(num_negatives, len(counts))
    for row, user in enumerate(user_ids.tolist()):
        keys = weights + rng(seed, "popular negatives", user).gumbel(size=len(counts))
        keys[histories.known.row(user) - 1] = -np.inf
        keys[listed[row, 0] - 1] = -np.inf
        best = np.argpartition(-keys, num_kept - 1)[:num_kept]
        best = np.sort(best[np.isfinite(keys[best])])
        listed[row, 1 : 1 + len(best)] = best + 1
    return listed
