"""The cleaning rules of `cleaning.text` on a whole column: the same texts, and Python looks only at the rare rows.

Enters: an Arrow column of texts. Leaves: the column as `cleaning.text` would give it, row by row.
Trade-off: a few passes of numpy over the bytes find the rows that hold anything but printable ASCII without "&" and
"<"; the rest can differ from its cleaned text by spaces alone, and those go in one more pass.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines import cleaning

_SPACE, _AMPERSAND, _LESS = 0x20, 0x26, 0x3C


def texts(values: pa.Array) -> pa.Array:
    """Every text as `cleaning.text` gives it; null where nothing is left.

    Example:
        >>> texts(pa.array(["Salt &amp; pepper", "two  spaces", " ", None])).to_pylist()
        ['Salt & pepper', 'two spaces', None, None]
    """
    offsets, data = _buffers(values)
    odd = (data - np.uint8(_SPACE) > 0x5E) | (data == _AMPERSAND) | (data == _LESS)
    return _cleaned(values, offsets, data, odd, cleaning.text)


def keys(values: pa.Array) -> pa.Array:
    """Every key as `cleaning.key` gives it."""
    offsets, data = _buffers(values)
    return _cleaned(values, offsets, data, data - np.uint8(_SPACE) > 0x5E, cleaning.key)


def _cleaned(
    values: pa.Array, offsets: np.ndarray, data: np.ndarray, odd: np.ndarray, clean: cleaning.Rule
) -> pa.Array:
    """The rows with an odd byte by `clean`; in the others, one space for each run of them, and none at the ends."""
    filled = np.flatnonzero(np.diff(offsets))
    space = data == _SPACE
    follows = np.empty_like(space)  # a space, or the beginning of a row
    follows[1:] = space[:-1]
    follows[offsets[filled]] = True
    squeezed = _without(values, np.flatnonzero(space & follows))
    offsets, data = _buffers(squeezed)
    last = offsets[1:][np.diff(offsets) > 0] - 1
    squeezed = _without(squeezed, last[data[last] == _SPACE])
    odd_places = np.flatnonzero(odd)
    if odd_places.size:
        hard = _rows_of(odd_places, _buffers(values)[0])
        mask = np.zeros(len(values), dtype=bool)
        mask[hard] = True
        mended = [clean(text) for text in values.take(pa.array(hard)).to_pylist()]
        squeezed = pc.replace_with_mask(squeezed, pa.array(mask), pa.array(mended, pa.string()))
    empty = pc.equal(pc.binary_length(squeezed), 0)
    return pc.if_else(empty, pa.scalar(None, pa.string()), squeezed) if pc.any(empty).as_py() else squeezed


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
    """The column without the bytes at the places `dropped`, which ascend."""
    if not dropped.size:
        return values
    offsets, data = _buffers(values)
    moved = (offsets - np.searchsorted(dropped, offsets)).astype(np.int32)
    validity = values.buffers()[0]
    shorter = np.delete(data, dropped)
    return pa.StringArray.from_buffers(len(values), pa.py_buffer(moved), pa.py_buffer(shorter), validity)
