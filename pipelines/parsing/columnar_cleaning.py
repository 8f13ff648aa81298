"""The cleaning rules of `cleaning.text` on a whole column: the same texts, and Python looks only at the rare rows.

Enters: an Arrow column of texts. Leaves: the column as `cleaning.text` would give it, row by row.
Trade-off: texts with "&" or "<" are mended one by one before they become a column; a few passes of numpy over its bytes
find the rows that hold anything but printable ASCII. The rest can differ from its cleaned text by spaces alone, and
those go in one more pass.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.parsing import cleaning

_SPACE, _DELETE = 0x20, 0x7F


def texts(values: pa.Array) -> pa.Array:
    """Every text as `cleaning.text` gives it; null where nothing is left.

    Example:
        >>> texts(pa.array(["Salt &amp; pepper", "two  spaces", " ", None])).to_pylist()
        ['Salt & pepper', 'two spaces', None, None]
    """
    return keys(pa.array(unmarked(values.to_pylist()), pa.string()))


def unmarked(values: Iterable[str | None]) -> list[str | None]:
    """Every text as `cleaning.unmarked` gives it, which is to be cleaned as a key then."""
    return [cleaning.unmarked(value) if value and ("&" in value or "<" in value) else value for value in values]


def keys(values: pa.Array) -> pa.Array:
    """Every key as `cleaning.key` gives it."""
    offsets, data = _buffers(values)
    filled = np.flatnonzero(np.diff(offsets))
    begins, lasts = offsets[filled], offsets[filled + 1] - 1
    space = data == _SPACE
    extra = np.empty_like(space)  # a space before another, or at an end of a row
    np.logical_and(space[:-1], space[1:], out=extra[:-1])
    extra[lasts] = space[lasts]
    in_front = space[begins]
    several = in_front & extra[begins]  # the last of them would stay
    extra[begins[in_front]] = True
    for begin, last in zip(begins[several].tolist(), lasts[several].tolist(), strict=True):
        row = data[begin : last + 1].tobytes()
        extra[begin : begin + len(row) - len(row.lstrip(b" "))] = True
    squeezed = _without(values, extra)
    return _without_empty(_mended(squeezed, _unprintable(data), offsets, values))


def _unprintable(data: np.ndarray) -> np.ndarray:
    """Places of all bytes but those of printable ASCII."""
    signed = data.view(np.int8)  # what is not ASCII is below 0
    if not signed.size or (signed.min() >= _SPACE and signed.max() < _DELETE):
        return np.zeros(0, np.int64)
    return np.flatnonzero((signed < _SPACE) | (signed == _DELETE))


def _mended(values: pa.Array, places: np.ndarray, offsets: np.ndarray, originals: pa.Array) -> pa.Array:
    """`values`, but `cleaning.key` of the original in the rows that hold a byte of the originals at `places`."""
    if not places.size:
        return values
    rows = _rows_of(places, offsets)
    mask = np.zeros(len(values), dtype=bool)
    mask[rows] = True
    found = originals.take(pa.array(rows)).to_pylist()
    return pc.replace_with_mask(values, pa.array(mask), pa.array(map(cleaning.key, found), pa.string()))


def _without_empty(values: pa.Array) -> pa.Array:
    """Null for every text of which nothing is left."""
    empty = np.diff(_buffers(values)[0]) == 0
    if np.count_nonzero(empty) == values.null_count:  # a null has no bytes
        return values
    return pc.if_else(pa.array(empty), pa.scalar(None, pa.string()), values)


def _buffers(values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(offsets, bytes) of a column of texts that is not a slice."""
    if values.offset:
        raise ValueError("a slice of a column")
    _, offsets, data = values.buffers()
    places = np.frombuffer(offsets, np.int32)[: len(values) + 1] if offsets else np.zeros(1, np.int32)
    return places, np.frombuffer(data, np.uint8)[: places[-1]] if data else np.zeros(0, np.uint8)


def _rows_of(places: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The rows that hold the given bytes, ascending, each once."""
    return np.unique(np.searchsorted(offsets, places, side="right") - 1)


def _without(values: pa.Array, dropped: np.ndarray) -> pa.Array:
    """The column without the bytes where the mask `dropped` is true."""
    places = np.flatnonzero(dropped)
    if not places.size:
        return values
    offsets, data = _buffers(values)
    moved = (offsets - np.searchsorted(places, offsets)).astype(np.int32)
    return pa.StringArray.from_buffers(
        len(values), pa.py_buffer(moved), pa.py_buffer(data[~dropped]), values.buffers()[0]
    )
