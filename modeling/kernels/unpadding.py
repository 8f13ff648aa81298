"""A batch without its padding: what is computed position by position is computed of real positions only.

Enters: the mask and the families of a batch. Leaves: states packed into one long row, and padded again for attention.
Trade-off: two copies around attention, in exchange for products of which no part is thrown away: half of them were,
where histories of 20 and of 400 tokens stand in one batch. Rows of several families stay padded, because adapters may
choose their weights by row, and so do rows whose padding costs less than the copies.
"""

from dataclasses import dataclass

from torch import Tensor

WORTH_PACKING = 0.03  # of the positions; below, the copies of every layer cost more than computing the padding


@dataclass(frozen=True)
class Packing:
    """Which positions of a batch hold something.

    Example: rows of 2 and 3 tokens, one family: states (2, 3, D) are packed to (1, 5, D).
    """

    rows: int
    """B."""
    length: int
    """S."""
    kept: Tensor | None
    """(N,) places among the B x S positions, ascending; None leaves states as they are."""
    families: Tensor
    """(1,) where all rows are of one family, else (B,): what adapters are routed by, packed or not."""

    @classmethod
    def of(cls, mask: Tensor, families: Tensor) -> "Packing":
        """The packing of a batch with `mask` (B, S) and `families` (B,)."""
        rows, length = mask.shape
        if bool((families != families[0]).any()):
            return cls(rows, length, None, families)
        kept = mask.flatten().nonzero()[:, 0]
        packs = len(kept) < (1 - WORTH_PACKING) * rows * length
        return cls(rows, length, kept if packs else None, families[:1])

    def packed(self, states: Tensor) -> Tensor:
        """(1, N, D) of `states` (B, S, D)."""
        return states if self.kept is None else states.flatten(0, 1)[self.kept][None]

    def padded(self, states: Tensor) -> Tensor:
        """(B, S, D) of packed `states`, 0 where there is padding."""
        if self.kept is None:
            return states
        full = states.new_zeros(self.rows * self.length, states.shape[2])
        return full.index_copy_(0, self.kept, states[0]).view(self.rows, self.length, -1)
