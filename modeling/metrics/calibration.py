"""Calibration of the model's probabilities: predicted probability against observed hit rate, by rank and by bin.

Reads the `predictions` of one prompt and the held-out items; returns curves by rank and probability bins.
Probabilities are those of the identifier over the whole vocabulary and are not renormalised after seen items are
masked, so a calibrated model looks slightly underconfident.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Float64, Int64

EDGES = (0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
"""Edges of the probability bins: two per power of ten, because probabilities over a catalogue are small."""
_Z = 1.96  # of a two-sided 95 % interval


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Predictions with a probability in [low, high), and the share of them that was the held-out item."""

    low: float
    high: float
    num_predictions: int
    predicted: float
    """Mean probability."""
    observed: float
    """Share of the predictions that was correct."""
    interval: tuple[float, float]
    """95 % interval of `observed` (Wilson 1927)."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Calibration of one prompt."""

    predicted: Float64[np.ndarray, "K"]
    """Mean probability of the item at rank k."""
    observed: Float64[np.ndarray, "K"]
    """Share of users whose held-out item is at rank k."""
    bins: Sequence[Bin]
    error: float
    """Expected calibration error: mean over predictions of |predicted - observed| of their bin (Guo et al. 2017)."""


def calibration(predictions: pa.Table, targets: Int64[np.ndarray, "N"]) -> Calibration | None:
    """Returns the calibration of one prompt's predictions; None if there are no predictions.

    Args:
        predictions: rows of `predictions` of one prompt.
        targets: held-out item by user_id, 0 for none; the first row belongs to no user.

    Example:
        One user, rank-1 item with log-probability log 0.5, correct: predicted [0.5], observed [1.0], error 0.5.
    """
    if not predictions.num_rows:
        return None
    users, ranks, items = (predictions[name].to_numpy().astype(np.int64) for name in ("user_id", "rank", "item_id"))
    probabilities = np.exp(predictions["score"].to_numpy().astype(np.float64))
    correct = (targets[users] == items).astype(np.float64)
    num_users, depth = len(np.unique(users)), int(ranks.max())
    predicted = np.bincount(ranks - 1, probabilities, depth) / num_users
    observed = np.bincount(ranks - 1, correct, depth) / num_users
    bins = _bins(probabilities, correct)
    error = sum(bin_.num_predictions * abs(bin_.predicted - bin_.observed) for bin_ in bins) / len(probabilities)
    return Calibration(predicted=predicted, observed=observed, bins=bins, error=error)


def _bins(probabilities: Float64[np.ndarray, "N"], correct: Float64[np.ndarray, "N"]) -> list[Bin]:
    indices = np.digitize(probabilities, EDGES[1:-1])
    bins = []
    for index, (low, high) in enumerate(pairwise(EDGES)):
        inside = indices == index
        count = int(inside.sum())
        if count:
            share = float(correct[inside].mean())
            bins.append(
                Bin(
                    low=low, high=high, num_predictions=count, predicted=float(probabilities[inside].mean()),
                    observed=share, interval=wilson(share, count),
                )
            )  # fmt: skip
    return bins


def wilson(share: float, count: int) -> tuple[float, float]:
    """Returns the 95 % score interval of a proportion (Wilson 1927), which stays within [0, 1] for rare events.

    Example:
        >>> [round(limit, 4) for limit in wilson(0.0, 100)]
        [0.0, 0.037]
    """
    middle = (share + _Z**2 / (2 * count)) / (1 + _Z**2 / count)
    half = _Z / (1 + _Z**2 / count) * float(np.sqrt(share * (1 - share) / count + _Z**2 / (4 * count**2)))
    return max(0.0, middle - half), min(1.0, middle + half)


def bin_rows(result: Calibration) -> list[list[str]]:
    """Returns one table row per bin: bounds, predictions, mean probability, observed share with its interval."""
    return [
        [
            f"{bin_.low:g} to {bin_.high:g}", f"{bin_.num_predictions:,}", f"{bin_.predicted:.4f}",
            f"{bin_.observed:.4f} [{bin_.interval[0]:.4f}, {bin_.interval[1]:.4f}]",
        ]
        for bin_ in result.bins
    ]  # fmt: skip


def summary(result: Calibration) -> dict[str, Any]:
    """Returns the summed probability of the first ten ranks, the observed HR@10, and the calibration error."""
    return {
        "predicted_hr@10": float(result.predicted[:10].sum()),
        "hr@10": float(result.observed[:10].sum()),
        "error": result.error,
    }
