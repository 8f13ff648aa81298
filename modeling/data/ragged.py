"""Ragged arrays: rows of unequal length, stored as flat values and offsets.

Trade-off: NumPy instead of nested tensors, because the dataset stays in memory once and many workers read it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int, Int64, Shaped

IntArray = npt.NDArray[np.integer]


@dataclass(frozen=True)
class Ragged:
    """Row i is `values[offsets[i]:offsets[i + 1]]`.

    Example:
        >>> rows = Ragged.from_rows([[5, 6], [], [7]])
        >>> rows.padded(np.array([2, 0]), fill=0).tolist()
        [[7, 0], [5, 6]]
    """

    values: Shaped[np.ndarray, "N"]
    """All rows, one after the other."""
    offsets: Int64[np.ndarray, "starts"]
    """Start of each row, and the end of the last."""

    @classmethod
    def from_rows(cls, rows: Sequence[Any], dtype: npt.DTypeLike = np.int32) -> "Ragged":
        """Creates a ragged array from `rows`."""
        lengths = np.fromiter((len(row) for row in rows), np.int64, len(rows))
        values = np.concatenate([np.asarray(row, dtype) for row in rows]) if len(rows) else np.zeros(0, dtype)
        return cls(values.astype(dtype, copy=False), offsets_of(lengths))

    @classmethod
    def from_arrow(cls, column: pa.ChunkedArray | pa.Array, dtype: npt.DTypeLike = np.int32) -> "Ragged":
        """Creates a ragged array from a list column; null becomes an empty row."""
        lengths = pc.list_value_length(column).fill_null(0).to_numpy()
        return cls(pc.list_flatten(column).to_numpy().astype(dtype), offsets_of(lengths))

    @classmethod
    def concatenate(cls, parts: Sequence["Ragged"]) -> "Ragged":
        """Concatenates the rows of all `parts`."""
        return cls(
            np.concatenate([part.values for part in parts]), offsets_of(np.concatenate([p.lengths for p in parts]))
        )

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Int64[np.ndarray, "R"]:
        """Number of values in each row."""
        return np.diff(self.offsets)

    def row(self, index: int) -> Shaped[np.ndarray, "N"]:
        """Row `index`, as a view."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def take(self, indices: Int[np.ndarray, "B"]) -> "Ragged":
        """The rows `indices`, in the given order."""
        lengths = self.lengths[indices]
        offsets = offsets_of(lengths)
        shift = np.repeat(self.offsets[indices] - offsets[:-1], lengths)
        return Ragged(self.values[np.arange(offsets[-1]) + shift], offsets)

    def keep(self, mask: Bool[np.ndarray, "N"]) -> "Ragged":
        """Drops the values where `mask` is False."""
        return Ragged(self.values[mask], offsets_of(mask)[self.offsets])

    @property
    def owners(self) -> Int64[np.ndarray, "N"]:
        """Row number of each value."""
        return np.repeat(np.arange(len(self)), self.lengths)

    @property
    def from_the_end(self) -> Int64[np.ndarray, "N"]:
        """Distance of each value from the end of its row; 0 for the last, the newest of a history."""
        return np.repeat(self.offsets[1:], self.lengths) - 1 - np.arange(len(self.values))

    def newest(self, count: int) -> "Ragged":
        """The last `count` values of every row."""
        return Ragged(self.values[self.from_the_end < count], offsets_of(np.minimum(self.lengths, count)))

    def padded(
        self, indices: Int[np.ndarray, "B"], *, fill: int, width: int | None = None
    ) -> Shaped[np.ndarray, "B S"]:
        """The rows `indices` as an array as wide as `width` or the longest row, right-padded with `fill`."""
        lengths = self.lengths[indices]
        columns = np.arange(int(lengths.max(initial=0)) if width is None else width)
        mask = columns < lengths[:, None]
        rectangle = np.full(mask.shape, fill, self.values.dtype)
        rectangle[mask] = self.take(indices).values
        return rectangle


def offsets_of(lengths: Shaped[np.ndarray, "R"]) -> Int64[np.ndarray, "R+1"]:
    """Start of each row for the given row lengths, and the end of the last."""
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])
