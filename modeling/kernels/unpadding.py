"""Removes padding from a batch, so that position-wise layers process real positions only.

Reads the mask and the families of a batch; concatenates states to one long row, and pads them again for attention.
Trade-off: two copies around attention, in exchange for no computation on padding, which is half of all positions if a
batch has sources of 20 and 400 tokens. Batches of several families stay padded, because adapters may select their
weights by row; so do batches with little padding.
"""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int64
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
    indices: Int64[Tensor, "N"] | None
    """Indices of the B x S positions, ascending; None leaves states padded."""
    families: Int64[Tensor, "B"]
    """Families for the adapters: one if all rows have the same family, else one per row."""

    @classmethod
    def of(cls, mask: Bool[Tensor, "B S"], families: Int64[Tensor, "B"]) -> "Unpadding":
        """The unpadding of a batch with `mask` and `families`."""
        rows, length = mask.shape
        if bool((families != families[0]).any()):
            return cls(rows, length, None, families)
        indices = mask.flatten().nonzero()[:, 0]
        worthwhile = len(indices) < (1 - MIN_PADDING_SHARE) * rows * length
        return cls(rows, length, indices if worthwhile else None, families[:1])

    def unpad(self, states: Float[Tensor, "B S D"]) -> Float[Tensor, "#B N D"]:
        """`states` without padding, as one row of N tokens; unchanged if states stay padded."""
        return states if self.indices is None else states.flatten(0, 1)[self.indices][None]

    def pad(self, states: Float[Tensor, "_ N D"]) -> Float[Tensor, "{self.rows} {self.length} D"]:
        """Unpadded `states` as a batch, with zeros as padding."""
        if self.indices is None:
            return states
        full = states.new_zeros(self.rows * self.length, states.shape[2])
        return full.index_copy_(0, self.indices, states[0]).view(self.rows, self.length, -1)
