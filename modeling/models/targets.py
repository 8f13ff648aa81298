"""Soft targets: a probability for every item, asked of the first token of an answer.

Enters: what a teacher answers. Leaves: tensors that the loss reads.
"""

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class SoftTargets:
    """Odds for some rows of a batch."""

    rows: Tensor
    """(K,) int64: their places in the batch, ascending."""
    odds: Tensor
    """(K, I) float32: of items 1 to I, each row adding up to 1 (or 0, where the teacher has nothing to say)."""
    tokens: Tensor
    """(I,) int64: the token of each item."""
    share: float
    """Of the row's loss."""
