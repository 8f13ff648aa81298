"""Ranking metrics for one relevant item per user, and their blocks in `evaluate.json`.

Reads the rank of the relevant item (from 1; 0 if it was not ranked); returns HR@k, NDCG@k and MRR@k per user, or blocks
of means, 95 % confidence intervals and paired differences. With one relevant item, every metric is a function of its
rank. Differences use a paired bootstrap over users, which detects gaps that two separate intervals would hide.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int, Int64

from modeling.metrics.bootstrap import differences_to_all, intervals

CUTOFFS = (1, 5, 10)


def ranks_of(top_items: Int[np.ndarray, "N K"], targets: Int[np.ndarray, "N"]) -> Int64[np.ndarray, "N"]:
    """Returns the rank of each target in its row, from 1; 0 if the row does not contain it.

    Args:
        top_items: ranked item ids, best first, padded with 0.
        targets: item ids.

    Example:
        >>> ranks_of(np.array([[4, 2], [3, 1]]), np.array([2, 9])).tolist()
        [2, 0]
    """
    matches = top_items == targets[:, None]
    return np.where(matches.any(1), matches.argmax(1) + 1, 0).astype(np.int64)


def by_user(ranks: Int[np.ndarray, "N"], cutoffs: Sequence[int]) -> dict[str, Float64[np.ndarray, "N"]]:
    """Returns hr@k, ndcg@k and mrr@k per user.

    For rank <= k, HR@k is 1, NDCG@k is 1 / log2(rank + 1) and MRR@k is 1 / rank; for a larger rank all are 0.

    Example:
        >>> {name: values.tolist() for name, values in by_user(np.array([1, 3, 0]), [2]).items()}
        {'hr@2': [1.0, 0.0, 0.0], 'ndcg@2': [1.0, 0.0, 0.0], 'mrr@2': [1.0, 0.0, 0.0]}
    """
    positive_ranks = np.maximum(ranks, 1).astype(np.float64)
    values: dict[str, Float64[np.ndarray, "N"]] = {}
    for k in cutoffs:
        hit = ((ranks > 0) & (ranks <= k)).astype(np.float64)
        values |= {f"hr@{k}": hit, f"ndcg@{k}": hit / np.log2(positive_ranks + 1), f"mrr@{k}": hit / positive_ranks}
    return values


def hits_by_depth(ranks: Int[np.ndarray, "N"], depth: int) -> Float64[np.ndarray, "K"]:
    """Returns HR@1 to HR@depth as one array: the curve of `plots/<dataset>/ranks.csv`.

    Example:
        >>> hits_by_depth(np.array([1, 3, 0, 3]), 3).tolist()
        [0.25, 0.25, 0.75]
    """
    counts = np.bincount(ranks[(ranks > 0) & (ranks <= depth)], minlength=depth + 1)[1:]
    return np.cumsum(counts) / max(len(ranks), 1)


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
    """Returns ours minus each of `others`, over the same users: {name: {"hr@10": [mean, low, high], ...}}."""
    if not resamples or not len(ours):
        return {}
    theirs = {name: _values(ranks) for name, ranks in others.items()}
    return differences_to_all(_values(ours), theirs, resamples=resamples, seed=seed)


def _values(ranks: Int[np.ndarray, "N"]) -> dict[str, Float64[np.ndarray, "N"]]:
    """Returns per-user metrics; at cutoff 1, NDCG and MRR equal HR and are dropped."""
    return {name: column for name, column in by_user(ranks, CUTOFFS).items() if name not in {"ndcg@1", "mrr@1"}}


def _mean(values: Float64[np.ndarray, "N"]) -> float:
    return float(values.mean()) if len(values) else 0.0
