"""Token losses of a batch and their reduction to a scalar loss.

Reads logits and labels at the target positions; returns `TokenLosses` and a scalar loss. Padding is excluded before
the output layer, the most expensive layer with 32,000 tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int, Int64
from torch import Tensor

from features.schema import FAMILIES
from modeling.models.targets import SoftTargets
from modeling.runtime.devices import to_device

EQUAL = (1.0,) * len(FAMILIES)
LossReduction = Literal["tokens", "examples", "paper"]


@dataclass(frozen=True)
class TokenLosses:
    """Negative log-likelihood of every target token of B rows, without padding."""

    values: Float32[Tensor, "N"]
    """Nats."""
    rows: Int64[Tensor, "N"]
    """Row of each token."""
    families: Int64[Tensor, "B"]
    """Family of each row."""

    def by_example(self) -> tuple[Float32[Tensor, "B"], Float32[Tensor, "B"]]:
        """Mean loss and number of target tokens of each row."""
        zeros = self.values.new_zeros(len(self.families))
        counts = zeros.index_add(0, self.rows, torch.ones_like(self.values))
        return zeros.index_add(0, self.rows, self.values) / counts, counts

    def by_family(self) -> tuple[Float32[Tensor, "3"], Float32[Tensor, "3"]]:
        """Sum of the losses and number of target tokens of each family."""
        zeros = self.values.new_zeros(len(FAMILIES))
        families = self.families[self.rows]
        sums = zeros.index_add(0, families, self.values.detach())
        return sums, zeros.index_add(0, families, torch.ones_like(self.values))

    def reduce(self, loss_reduction: LossReduction, family_weights: Sequence[float] = EQUAL) -> Float32[Tensor, ""]:
        """The scalar loss: `total` divided by `weight_of`.

        Args:
            loss_reduction: "tokens": mean over target tokens. "examples": mean over rows of their mean token loss (P5).
                "paper": as "examples", with each row divided by its number of target tokens (VIP5's code), so that a
                token of an explanation has weight 1 / length^2.
            family_weights: weight of the rows (with "tokens", of the tokens) of each family in the mean.

        Example: rows with token losses [1, 3] and [5]: tokens 3.0, examples 3.5, paper (2 / 2 + 5) / 2 = 3.0.
        """
        counts = torch.bincount(self.rows, minlength=len(self.families)).numpy(force=True)
        weight = weight_of(counts, self.families.numpy(force=True), loss_reduction, family_weights)
        return self.total(loss_reduction, family_weights) / weight

    def total(self, loss_reduction: LossReduction, family_weights: Sequence[float] = EQUAL) -> Float32[Tensor, ""]:
        """The numerator of `reduce`; totals of microbatches add up to the total of the batch."""
        weights = to_device(torch.tensor(family_weights, dtype=torch.float32), self.values.device)[self.families]
        if loss_reduction == "tokens":
            return (self.values * weights[self.rows]).sum()
        means, counts = self.by_example()
        return ((means / counts if loss_reduction == "paper" else means) * weights).sum()


def weight_of(
    target_lengths: Int[np.ndarray, "B"],
    families: Int64[np.ndarray, "B"],
    loss_reduction: LossReduction,
    family_weights: Sequence[float] = EQUAL,
) -> float:
    """The denominator of `reduce` for rows with these target lengths and families, computed without a device sync."""
    weights = np.asarray(family_weights)[families]
    return float((weights * target_lengths).sum() if loss_reduction == "tokens" else weights.sum())


def token_losses(
    logits: Float[Tensor, "N V"], labels: Int64[Tensor, "N"], rows: Int64[Tensor, "N"], families: Int64[Tensor, "B"]
) -> TokenLosses:
    """Cross-entropy of `logits` with `labels`, in float32."""
    return TokenLosses(F.cross_entropy(logits.float(), labels, reduction="none"), rows, families)


def with_soft_targets(losses: TokenLosses, logits: Float[Tensor, "N V"], soft: SoftTargets) -> TokenLosses:
    """Mixes the distillation loss into the first target token of the rows `soft.rows`, with weight `soft.weight`.

    Args:
        losses: losses of every target token, ordered by row.
        logits: logits of the same tokens.
        soft: soft targets over the item tokens.
    """
    first = torch.searchsorted(losses.rows, soft.rows)
    log_probs = logits[first].float().log_softmax(-1)[:, soft.tokens]
    distilled = -(soft.probabilities * log_probs).sum(1)
    weight = soft.weight * soft.probabilities.sum(1)  # 0 if the teacher has no prediction
    change = soft.weight * distilled - weight * losses.values[first]
    return replace(losses, values=losses.values.index_add(0, first, change))
