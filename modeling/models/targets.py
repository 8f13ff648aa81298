"""Soft targets for distillation: item probabilities for the first target token."""

from dataclasses import dataclass

from jaxtyping import Float32, Int64
from torch import Tensor


@dataclass(frozen=True)
class SoftTargets:
    """Item probabilities for some rows of a batch."""

    rows: Int64[Tensor, "N"]
    """Positions in the batch, ascending."""
    probabilities: Float32[Tensor, "N I"]
    """Over items 1 to I; each row sums to 1, or to 0 if the teacher has no prediction."""
    tokens: Int64[Tensor, "I"]
    """Token id of each item."""
    weight: float
    """Weight of the soft targets in the loss of a row, from 0 to 1."""
