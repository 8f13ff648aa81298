"""Token losses of a batch and the three ways to average them.

Enters: logits at the target positions and the labels there. Leaves: `TokenLosses`, and one number to minimise.
Trade-off: padding never reaches the output layer, which is the dearest one with 32,000 tokens.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from features.schema import FAMILIES
from modeling.data.ragged import IntArray
from modeling.models.targets import SoftTargets
from modeling.runtime.devices import moved

EQUAL = (1.0,) * len(FAMILIES)
Weighting = Literal["tokens", "examples", "paper"]


@dataclass(frozen=True)
class TokenLosses:
    """Negative log-likelihood of every target token of B rows, padding left out."""

    values: Tensor
    """(N,) nats, float32."""
    rows: Tensor
    """(N,) int64: the row that each token belongs to."""
    families: Tensor
    """(B,) int64: the family of each row."""

    def by_example(self) -> tuple[Tensor, Tensor]:
        """Mean loss (B,) and number of target tokens (B,) of every row."""
        zeros = self.values.new_zeros(len(self.families))
        counts = zeros.index_add(0, self.rows, torch.ones_like(self.values))
        return zeros.index_add(0, self.rows, self.values) / counts, counts

    def by_family(self) -> tuple[Tensor, Tensor]:
        """Sum of the losses and number of target tokens of each family, both (3,)."""
        zeros = self.values.new_zeros(len(FAMILIES))
        families = self.families[self.rows]
        sums = zeros.index_add(0, families, self.values.detach())
        return sums, zeros.index_add(0, families, torch.ones_like(self.values))

    def reduce(self, weighting: Weighting, family_weights: Sequence[float] = EQUAL) -> Tensor:
        """The number to minimise: `total` over `weight_of`.

        Args:
            weighting: "tokens": mean over target tokens. "examples": mean over rows of their mean (P5).
                "paper": the same, each row's mean times 1 / its number of target tokens (VIP5's code), so that a token
                of an explanation weighs 1 / length^2.
            family_weights: how much a row (under "tokens", a token) of each family counts in the mean.

        Example: rows with token losses [1, 3] and [5]: tokens 3.0, examples 3.5, paper (2 / 2 + 5) / 2 = 3.0.
        """
        counts = torch.bincount(self.rows, minlength=len(self.families)).numpy(force=True)
        weight = weight_of(counts, self.families.numpy(force=True), weighting, family_weights)
        return self.total(weighting, family_weights) / weight

    def total(self, weighting: Weighting, family_weights: Sequence[float] = EQUAL) -> Tensor:
        """The sum that `reduce` divides; sums over parts of a batch add up to the sum over the batch."""
        weights = moved(torch.tensor(family_weights, dtype=torch.float32), self.values.device)[self.families]
        if weighting == "tokens":
            return (self.values * weights[self.rows]).sum()
        means, counts = self.by_example()
        return ((means / counts if weighting == "paper" else means) * weights).sum()


def weight_of(
    target_lengths: IntArray, families: IntArray, weighting: Weighting, family_weights: Sequence[float] = EQUAL
) -> float:
    """By what the `total` of rows with these target lengths and families is divided; asked of no device."""
    weights = np.asarray(family_weights)[families]
    return float((weights * target_lengths).sum() if weighting == "tokens" else weights.sum())


def token_losses(logits: Tensor, labels: Tensor, rows: Tensor, families: Tensor) -> TokenLosses:
    """Cross-entropy of `logits` (N, V) against `labels` (N,), in float32."""
    return TokenLosses(F.cross_entropy(logits.float(), labels, reduction="none"), rows, families)


def with_soft_targets(losses: TokenLosses, logits: Tensor, soft: SoftTargets) -> TokenLosses:
    """The first token of the rows `soft.rows` is asked for the teacher's odds as well, `soft.share` of its loss.

    Args:
        losses: of every target token, in order of row.
        logits: (N, V) behind them.
        soft: odds over the items' tokens.
    """
    first = torch.searchsorted(losses.rows, soft.rows)
    log_probs = logits[first].float().log_softmax(-1)[:, soft.tokens]
    taught = -(soft.odds * log_probs).sum(1)
    share = soft.share * soft.odds.sum(1)  # nothing where the teacher has nothing to say
    change = soft.share * taught - share * losses.values[first]
    return replace(losses, values=losses.values.index_add(0, first, change))
