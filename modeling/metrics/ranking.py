"""Ranking metrics for one relevant item per user, and the definitions of the original evaluation code.

Reads the rank of the relevant item (from 1; 0 if it was not ranked); returns HR@k, NDCG@k and MRR@k per user or
averaged. With one relevant item, every metric is a function of its rank.
"""

import math
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from jaxtyping import Float64, Int, Int64


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


# The definitions below are those of the original evaluation notebooks (paper section 4; VIP5 specification 6.1).
# They differ from the ones above for several relevant items, short lists and non-numeric strings.


def paper_scores(strings: Sequence[str]) -> dict[int, int]:
    """Parses generated strings as the original does: {number: -position}; a repeated number keeps its last position.

    Example:
        >>> paper_scores(["12", "x", "7", "12"])
        {12: -4, 7: -3}
    """
    scores: dict[int, int] = {}
    for position, text in enumerate(strings, start=1):
        try:
            number = int(text)
        except ValueError:
            continue
        scores[number] = -position
    return scores


def paper_dcg(relevance: Sequence[float], k: int, *, variant: int = 1) -> float:
    """Returns the discounted cumulative gain with weights 1/log2(rank + 1), or 1, 1, 1/log2(3), ... for variant 0."""
    rows = relevance[:k]
    if variant == 1:
        return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(rows, start=1))
    return sum(gain / (1.0 if rank == 1 else math.log2(rank)) for rank, gain in enumerate(rows, start=1))


def paper_ndcg(relevance: Sequence[float], k: int, *, variant: int = 1) -> float:
    """Returns DCG divided by the DCG of the same list in its best order (not of all relevant items)."""
    best = paper_dcg(sorted(relevance, reverse=True), k, variant=variant)
    return paper_dcg(relevance, k, variant=variant) / best if best else 0.0


def paper_average_precision(relevance: Sequence[float]) -> float:
    """Returns the mean precision at the ranks of the relevant items; 0 without any."""
    ranks = [rank for rank, gain in enumerate(relevance, start=1) if gain]
    return sum(found / rank for found, rank in enumerate(ranks, start=1)) / len(ranks) if ranks else 0.0


def paper_reciprocal_rank(relevance: Sequence[float]) -> float:
    """Returns 1 / rank of the first relevant item; 0 without any."""
    return next((1.0 / rank for rank, gain in enumerate(relevance, start=1) if gain), 0.0)


def paper_user(ranked: Sequence[int], relevant: Collection[int]) -> dict[str, float]:
    """Returns the original's metrics for one user's ranked list, already truncated to k items.

    Raises:
        ValueError: the list is empty (the original fails too).
    """
    if not ranked:
        raise ValueError("a user without any valid prediction; the original evaluation stops here")
    relevance = [float(item in relevant) for item in ranked]
    return {
        "ndcg": paper_ndcg(relevance, len(ranked)),
        "map": paper_average_precision(relevance),
        "recall": sum(relevance) / len(relevant),
        "precision": sum(relevance) / len(ranked),
        "mrr": paper_reciprocal_rank(relevance),
        "hit": float(any(relevance)),
    }


def paper_mean(
    scores: Mapping[int, Mapping[int, float]], relevant: Mapping[int, Collection[int]], k: int
) -> dict[str, float]:
    """Returns the original's metrics at k, averaged over users; ties keep their order (the original shuffles them)."""
    users = []
    for user, items in relevant.items():
        ranked = sorted(scores[user], key=lambda item, own=scores[user]: -own[item])[:k]  # type: ignore[misc]
        users.append(paper_user(ranked, items))
    return {name: sum(user[name] for user in users) / len(users) for name in users[0]}
