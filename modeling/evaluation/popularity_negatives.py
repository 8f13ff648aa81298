"""Negatives drawn by popularity: the harder list of candidates for the direct task.

Enters: train counts, known items and test items. Leaves: for every user the test item and as many unseen items as asked
for. Trade-off: drawn here by the seed instead of kept in a table, because nothing but the evaluation reads them.
"""

import numpy as np

from features.runtime.seeds import rng
from modeling.baselines.counting import IntArray
from modeling.data.user_histories import UserHistories


def popular_candidates(
    histories: UserHistories, user_ids: IntArray, counts: IntArray, *, num_negatives: int, seed: int
) -> IntArray:
    """(N, 1 + num_negatives) test item first, then distinct unseen items; 0 where there are not enough of them.

    Items are drawn without replacement in proportion to their train interactions (Gumbel keys: the largest of
    ln(count) + noise), so that a ranking by popularity alone gains nothing. A user's draw depends on seed and user
    alone.

    Args:
        histories: known and test items.
        user_ids: (N,).
        counts: (I,) train interactions of items 1 to I.
        num_negatives: how many are drawn.
        seed: of the draws.
    """
    with np.errstate(divide="ignore"):
        weights = np.log(counts.astype(np.float64))
    listed = np.zeros((len(user_ids), 1 + num_negatives), np.int64)
    listed[:, 0] = histories.targets[user_ids]
    kept = min(num_negatives, len(counts))
    for row, user in enumerate(user_ids.tolist()):
        keys = weights + rng(seed, "popular negatives", user).gumbel(size=len(counts))
        keys[histories.known.row(user) - 1] = -np.inf
        keys[listed[row, 0] - 1] = -np.inf
        best = np.argpartition(-keys, kept - 1)[:kept]
        best = np.sort(best[np.isfinite(keys[best])])
        listed[row, 1 : 1 + len(best)] = best + 1
    return listed
