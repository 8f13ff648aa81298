"""Rows of unequal length as two flat arrays: the memory of the numbers alone, and batches without a Python loop.

Enters: values and where each row starts. Leaves: rows, lengths, padded rectangles.
Trade-off: NumPy instead of a nested tensor, because a corpus lives in memory once and is read by many workers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Ragged:
    """Row i is `values[offsets[i]:offsets[i + 1]]`.

    Example:
        >>> rows = Ragged.from_rows([[5, 6], [], [7]])
        >>> rows.padded(np.array([2, 0]), fill=0).tolist()
        [[7, 0], [5, 6]]
    """

    values: npt.NDArray[Any]
    """All rows, one after the other."""
    offsets: npt.NDArray[np.int64]
    """Where each row starts, and the end: number of rows + 1."""

    @classmethod
    def from_rows(cls, rows: Sequence[Any], dtype: npt.DTypeLike = np.int32) -> "Ragged":
        """The same rows, flattened."""
        lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
        values = np.concatenate([np.asarray(row, dtype) for row in rows]) if len(rows) else np.zeros(0, dtype)
        return cls(values.astype(dtype, copy=False), offsets_of(lengths))

    @classmethod
    def joined(cls, parts: Sequence["Ragged"]) -> "Ragged":
        """The rows of all `parts`, in order."""
        return cls(
            np.concatenate([part.values for part in parts]), offsets_of(np.concatenate([p.lengths for p in parts]))
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """Numbers in each row."""
        return np.diff(self.offsets)

    def row(self, index: int) -> npt.NDArray[Any]:
        """Row `index`, as a view."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def take(self, indices: IntArray) -> "Ragged":
        """The rows `indices`, in that order."""
        lengths = self.lengths[indices]
        offsets = offsets_of(lengths)
        shift = np.repeat(self.offsets[indices] - offsets[:-1], lengths)
        return Ragged(self.values[np.arange(offsets[-1]) + shift], offsets)

    def keep(self, mask: npt.NDArray[np.bool_]) -> "Ragged":
        """The same rows without the values where `mask` is False."""
        kept = np.concatenate([[0], np.cumsum(mask)])
        return Ragged(self.values[mask], kept[self.offsets])

    @property
    def owners(self) -> npt.NDArray[np.int64]:
        """The row of each value."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def from_the_end(self) -> npt.NDArray[np.int64]:
        """How many values of its row stand after each value: 0 for the last one, the newest of a history."""
        return np.repeat(self.offsets[1:], self.lengths) - 1 - np.arange(len(self.values))

    def newest(self, count: int) -> "Ragged":
        """The last `count` values of every row, or all where it has fewer."""
        return Ragged(self.values[self.from_the_end < count], offsets_of(np.minimum(self.lengths, count)))

    def padded(self, indices: IntArray, *, fill: int, width: int | None = None) -> npt.NDArray[Any]:
        """The rows `indices` as a rectangle (len(indices), longest), right-padded with `fill`."""
        lengths = self.lengths[indices]
        columns = np.arange(int(lengths.max(initial=0)) if width is None else width)
        mask = columns < lengths[:, None]
        rectangle = np.full(mask.shape, fill, self.values.dtype)
        rectangle[mask] = self.take(indices).values
        return rectangle


def offsets_of(lengths: IntArray) -> npt.NDArray[np.int64]:
    """Where rows of these lengths start, and the end."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
