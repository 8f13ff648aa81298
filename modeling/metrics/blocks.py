"""Metric blocks of `evaluate.json`: means, 95 % confidence intervals and paired differences, computed from ranks.

Reads ranks of the same users under several models; returns dictionaries that serialise to JSON. Differences use a
paired bootstrap over users, which detects gaps that two separate intervals would hide.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float64, Int

from modeling.metrics.bootstrap import differences_to_all, intervals
from modeling.metrics.ranking import by_user

CUTOFFS = (1, 5, 10)


def ranking_block(ranks: Int[np.ndarray, "N"], *, resamples: int, seed: int) -> dict[str, Any]:
    """Returns hr@1, hr, ndcg and mrr at 5 and 10, `num_users`, and the 95 % intervals of the metrics (`ci95`).

    Example (without intervals): ranks [1, 0] -> {"hr@1": 0.5, "hr@5": 0.5, "ndcg@5": 0.5, ..., "num_users": 2}
    """
    values = _values(ranks)
    block: dict[str, Any] = {name: _mean(column) for name, column in values.items()}
    block["num_users"] = len(ranks)
    if resamples and len(ranks):
        block["ci95"] = intervals(values, resamples=resamples, seed=seed)
    return block


def difference_block(
    ours: Int[np.ndarray, "N"], others: Mapping[str, Int[np.ndarray, "N"]], *, resamples: int, seed: int
) -> dict[str, dict[str, list[float]]]:
    """Ours minus each of `others`: {name: {"hr@10": [mean, low, high], ...}}. Users are in the same order."""
    if not resamples or not len(ours):
        return {}
    theirs = {name: _values(ranks) for name, ranks in others.items()}
    return differences_to_all(_values(ours), theirs, resamples=resamples, seed=seed)


def _values(ranks: Int[np.ndarray, "N"]) -> dict[str, Float64[np.ndarray, "N"]]:
    """Returns per-user metrics; at cutoff 1, NDCG and MRR equal HR and are dropped."""
    return {name: column for name, column in by_user(ranks, CUTOFFS).items() if name not in {"ndcg@1", "mrr@1"}}


def _mean(values: Float64[np.ndarray, "N"]) -> float:
    return float(values.mean()) if len(values) else 0.0
