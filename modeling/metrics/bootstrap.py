"""Paired bootstrap confidence intervals over users (Efron and Tibshirani 1993).

Reads (U, M) values, one row per user and one column per metric; returns (resamples, M) means. The 2.5th and 97.5th
percentiles of these means are the 95 % interval. Each resample is a vector of user weights, so all resamples are one
matrix product: 1,000 resamples of 20,000 users take less than a second.
"""

from collections.abc import Hashable, Mapping
from typing import TypeVar

import numpy as np
from jaxtyping import Float64

from features.runtime.seeds import rng

Key = TypeVar("Key", bound=Hashable)
_BLOCK = 50


def resampled_means(
    values: Float64[np.ndarray, "U M"], *, resamples: int, seed: int
) -> Float64[np.ndarray, "{resamples} M"]:
    """Returns column means over users sampled with replacement.

    The sample depends only on `seed` and the number of users U. Two models evaluated on the same users get the same
    resamples, so the difference of their results is a paired bootstrap.
    """
    num_users = len(values)
    if num_users == 0:
        return np.zeros((resamples, values.shape[1]))
    generator = rng(seed, "bootstrap", num_users)
    means = []
    for start in range(0, resamples, _BLOCK):
        size = min(_BLOCK, resamples - start)
        draws = generator.integers(0, num_users, (size, num_users)) + np.arange(size)[:, None] * num_users
        weights = np.bincount(draws.ravel(), minlength=size * num_users).reshape(size, num_users)
        means.append(weights @ values / num_users)
    return np.concatenate(means)


def interval(means: Float64[np.ndarray, "N ..."]) -> list[float]:
    """Returns the 2.5th and 97.5th percentiles of bootstrap means as [low, high]."""
    low, high = np.percentile(means, [2.5, 97.5])
    return [float(low), float(high)]


def intervals(values: Mapping[Key, Float64[np.ndarray, "U"]], *, resamples: int, seed: int) -> dict[Key, list[float]]:
    """Returns the 95 % interval of the mean of each metric; all metrics share the same resamples.

    Example:
        >>> intervals({"hr@1": np.ones(4)}, resamples=10, seed=1)
        {'hr@1': [1.0, 1.0]}
    """
    if not values:
        return {}
    means = resampled_means(np.stack(list(values.values()), axis=1), resamples=resamples, seed=seed)
    return {name: interval(means[:, column]) for column, name in enumerate(values)}


def differences(
    ours: Mapping[str, Float64[np.ndarray, "_"]],
    theirs: Mapping[str, Float64[np.ndarray, "_"]],
    *,
    resamples: int,
    seed: int,
) -> dict[str, list[float]]:
    """Returns [mean, low, high] of ours minus theirs per metric, over the same users in the same order.

    Raises:
        ValueError: the two have different numbers of users.
    """
    return differences_to_all(ours, {"theirs": theirs}, resamples=resamples, seed=seed)["theirs"]


def differences_to_all(
    ours: Mapping[str, Float64[np.ndarray, "_"]],
    others: Mapping[str, Mapping[str, Float64[np.ndarray, "_"]]],
    *,
    resamples: int,
    seed: int,
) -> dict[str, dict[str, list[float]]]:
    """Returns `differences` to each of `others`; all share the same resamples."""
    gaps: dict[tuple[str, str], Float64[np.ndarray, "U"]] = {}
    for other, theirs in others.items():
        for name in ours:
            if name in theirs:
                if len(ours[name]) != len(theirs[name]):
                    raise ValueError("a paired bootstrap needs the same users on both sides")
                gaps[other, name] = ours[name] - theirs[name]
    limits = intervals(gaps, resamples=resamples, seed=seed)
    results: dict[str, dict[str, list[float]]] = {other: {} for other in others}
    for (other, name), gap in gaps.items():
        results[other][name] = [float(gap.mean()) if len(gap) else 0.0, *limits[other, name]]
    return results
