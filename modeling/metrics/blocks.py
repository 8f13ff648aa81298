"""Ranks to the blocks of the metrics file: means, 95 % intervals, paired differences.

Enters: ranks of the same users under several models. Leaves: plain dictionaries for JSON, and curves for CSV.
Trade-off: differences are bootstrapped user by user, so that a gap too small for two separate intervals can be seen.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from modeling.metrics.bootstrap import differences_to_all, intervals
from modeling.metrics.ranking import by_user

IntArray = npt.NDArray[np.int64]
CUTOFFS = (1, 5, 10)


def ranking_block(ranks: IntArray, *, resamples: int, seed: int) -> dict[str, Any]:
    """hr@1, hr, ndcg and mrr at 5 and 10, `num_users`, and their 95 % intervals (`ci95`).

    Example (without intervals): ranks [1, 0] -> {"hr@1": 0.5, "hr@5": 0.5, "ndcg@5": 0.5, ..., "num_users": 2}
    """
    values = _values(ranks)
    block: dict[str, Any] = {name: _mean(column) for name, column in values.items()}
    block["num_users"] = len(ranks)
    if resamples and len(ranks):
        block["ci95"] = intervals(values, resamples=resamples, seed=seed)
    return block


def difference_block(
    ours: IntArray, others: Mapping[str, IntArray], *, resamples: int, seed: int
) -> dict[str, dict[str, list[float]]]:
    """Ours minus each of `others` by metric: {name: {"hr@10": [mean, low, high], ...}}; the same users, in order."""
    if not resamples or not len(ours):
        return {}
    theirs = {name: _values(ranks) for name, ranks in others.items()}
    return differences_to_all(_values(ours), theirs, resamples=resamples, seed=seed)


def _values(ranks: IntArray) -> dict[str, npt.NDArray[np.float64]]:
    """By user; at 1 the three metrics are one number."""
    return {name: column for name, column in by_user(ranks, CUTOFFS).items() if name not in {"ndcg@1", "mrr@1"}}


def _mean(values: npt.NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0
