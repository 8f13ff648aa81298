"""Soft targets for distillation: item probabilities for the first target token."""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SoftTargets:
    """Item probabilities for some rows of a batch."""

    rows: Tensor
    """(K,) int64: positions in the batch, ascending."""
    probabilities: Tensor
    """(K, I) float32 over items 1 to I; each row sums to 1, or to 0 if the teacher has no prediction."""
    tokens: Tensor
    """(I,) int64: token id of each item."""
    weight: float
    """Weight of the soft targets in the loss of a row, from 0 to 1."""
