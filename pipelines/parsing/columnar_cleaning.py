"""Applies `cleaning.text` to a whole column with NumPy; Python handles only the rare rows.

Reads an Arrow column of texts. Returns the column that `cleaning.text` would give row by row.
Texts with a sign of markup are freed of it one by one. NumPy passes over the bytes find the rows with anything but
printable ASCII; in the remaining rows only spaces can differ, and one more pass removes those.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.parsing import cleaning, markup

_SPACE, _DELETE = 0x20, 0x7F


def texts(values: pa.Array) -> pa.Array:
    """Applies `cleaning.text` to every text; null if nothing is left.

    Example:
        >>> texts(pa.array(["Salt &amp; pepper", "two  spaces", " ", None])).to_pylist()
        ['Salt & pepper', 'two spaces', None, None]
    """
    return keys(pa.array(unmarked(values.to_pylist()), pa.string()))


def unmarked(values: Iterable[str | None]) -> list[str | None]:
    """Applies `markup.unmarked` to every text; the result is then cleaned like a key."""
    clean = markup.unmarked
    return [clean(value) if value and ("&" in value or "<" in value or "[" in value) else value for value in values]


def keys(values: pa.Array) -> pa.Array:
    """Applies `cleaning.key` to every key."""
    offsets, data = _buffers(values)
    filled = np.flatnonzero(np.diff(offsets))
    begins, lasts = offsets[filled], offsets[filled + 1] - 1
    space = data == _SPACE
    extra = np.empty_like(space)  # a space before another space, or at either end of a row
    np.logical_and(space[:-1], space[1:], out=extra[:-1])
    extra[lasts] = space[lasts]
    in_front = space[begins]
    several = in_front & extra[begins]  # otherwise the last of them would remain
    extra[begins[in_front]] = True
    for begin, last in zip(begins[several].tolist(), lasts[several].tolist(), strict=True):
        row = data[begin : last + 1].tobytes()
        extra[begin : begin + len(row) - len(row.lstrip(b" "))] = True
    squeezed = _without(values, extra)
    return _without_empty(_recleaned(squeezed, _unprintable(data), offsets, values))


def _unprintable(data: np.ndarray) -> np.ndarray:
    """Indices of all bytes that are not printable ASCII."""
    signed = data.view(np.int8)  # non-ASCII bytes are negative
    if not signed.size or (signed.min() >= _SPACE and signed.max() < _DELETE):
        return np.zeros(0, np.int64)
    return np.flatnonzero((signed < _SPACE) | (signed == _DELETE))


def _recleaned(values: pa.Array, places: np.ndarray, offsets: np.ndarray, originals: pa.Array) -> pa.Array:
    """`values`, with `cleaning.key` of the original in the rows that contain the bytes at `places`."""
    if not places.size:
        return values
    rows = _rows_of(places, offsets)
    mask = np.zeros(len(values), dtype=bool)
    mask[rows] = True
    dirty = originals.take(pa.array(rows)).to_pylist()
    return pc.replace_with_mask(values, pa.array(mask), pa.array(map(cleaning.key, dirty), pa.string()))


def _without_empty(values: pa.Array) -> pa.Array:
    """Replaces empty texts with null."""
    empty = np.diff(_buffers(values)[0]) == 0
    if np.count_nonzero(empty) == values.null_count:  # a null has no bytes
        return values
    return pc.if_else(pa.array(empty), pa.scalar(None, pa.string()), values)


def _buffers(values: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(offsets, bytes) of an unsliced column of texts."""
    if values.offset:
        raise ValueError("a slice of a column")
    _, offsets, data = values.buffers()
    places = np.frombuffer(offsets, np.int32)[: len(values) + 1] if offsets else np.zeros(1, np.int32)
    return places, np.frombuffer(data, np.uint8)[: places[-1]] if data else np.zeros(0, np.uint8)


def _rows_of(places: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """The distinct rows that contain the given bytes, ascending."""
    return np.unique(np.searchsorted(offsets, places, side="right") - 1)


def _without(values: pa.Array, dropped: np.ndarray) -> pa.Array:
    """The column without the bytes selected by the mask `dropped`."""
    places = np.flatnonzero(dropped)
    if not places.size:
        return values
    offsets, data = _buffers(values)
    moved = (offsets - np.searchsorted(places, offsets)).astype(np.int32)
    return pa.StringArray.from_buffers(
        len(values), pa.py_buffer(moved), pa.py_buffer(data[~dropped]), values.buffers()[0]
    )
