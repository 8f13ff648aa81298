"""Removes padding from a batch, so that position-wise layers process real positions only.

Reads the mask and the families of a batch; concatenates states to one long row, and pads them again for attention.
Trade-off: two copies around attention, in exchange for no computation on padding, which is half of all positions if a
batch has sources of 20 and 400 tokens. Batches of several families stay padded, because adapters may select their
weights by row; so do batches with little padding.
"""

from dataclasses import dataclass

from torch import Tensor

MIN_PADDING_SHARE = 0.03  # below it, the copies in every layer cost more than computing the padding


@dataclass(frozen=True)
class Unpadding:
    """The positions of a batch that are not padding.

    Example: rows of 2 and 3 tokens, one family: states (2, 3, D) become (1, 5, D).
    """

    rows: int
    """B."""
    length: int
    """S."""
    indices: Tensor | None
    """(N,) indices of the B x S positions, ascending; None leaves states padded."""
    families: Tensor
    """Families for the adapters: (1,) if all rows have the same family, else (B,)."""

    @classmethod
    def of(cls, mask: Tensor, families: Tensor) -> "Unpadding":
        """The unpadding of a batch with `mask` (B, S) and `families` (B,)."""
        rows, length = mask.shape
        if bool((families != families[0]).any()):
            return cls(rows, length, None, families)
        indices = mask.flatten().nonzero()[:, 0]
        worthwhile = len(indices) < (1 - MIN_PADDING_SHARE) * rows * length
        return cls(rows, length, indices if worthwhile else None, families[:1])

    def unpad(self, states: Tensor) -> Tensor:
        """`states` (B, S, D) without padding, as (1, N, D)."""
        return states if self.indices is None else states.flatten(0, 1)[self.indices][None]

    def pad(self, states: Tensor) -> Tensor:
        """Unpadded `states` as (B, S, D), with zeros as padding."""
        if self.indices is None:
            return states
        full = states.new_zeros(self.rows * self.length, states.shape[2])
        return full.index_copy_(0, self.indices, states[0]).view(self.rows, self.length, -1)
