"""Finds small photos that take gigabytes or hours: directories that share bytes, endless scans or comments.

Reads the structure of a file. Trade-off: Pillow copies the bytes of every entry of a TIFF or EXIF directory, so that
60,000 entries of one small file would take gigabytes; sums are computed before it sees the block.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

_UNITS = np.zeros(1 << 16, np.int64)
_UNITS[[1, 2, 6, 7]], _UNITS[[3, 8]], _UNITS[[4, 9, 11, 13]], _UNITS[[5, 10, 12, 16]] = 1, 2, 4, 8
_SPARE = 1 << 20  # bytes that entries may share, and those of a GIF's comments, which Pillow joins one by one
_RAW = "Raw profile type exif"
_SHARED = "a directory whose entries share their bytes"
_MOST_SCANS = 1000  # a progressive JPEG has about ten
_IMAGE, _EXTENSION = 0x2C, 0x21
_FRAMES, _PROGRESSIVE = frozenset(range(0xFFC0, 0xFFC4)), frozenset({0xFFC2, 0xFFC6, 0xFFCA, 0xFFCE})
_START_OF_SCAN, _FILL = 0xFFDA, 0xFFFF


def is_inflated(block: bytes) -> bool:
    """Whether the entries of the first directory declare far more bytes than there are.

    Args:
        block: A TIFF, or an EXIF block with or without its prefix.

    Example:
        >>> is_inflated(b"no directory")
        False
    """
    block = block.removeprefix(b"Exif\0\0")
    order = {b"II": "<", b"MM": ">"}.get(block[:2])
    if order is None or len(block) < 16:
        return False
    big = int(np.frombuffer(block, f"{order}u2", 1, 2)[0]) == 43
    at, head = (8, "u8") if big else (4, "u4")
    start = int(np.frombuffer(block, order + head, 1, at)[0])
    counter = np.dtype(order + ("u8" if big else "u2"))
    if start + counter.itemsize > len(block):
        return False
    entry = np.dtype([("tag", f"{order}u2"), ("kind", f"{order}u2"), ("count", order + head), ("value", order + head)])
    declared = int(np.frombuffer(block, counter, 1, start)[0])
    there = min(declared, (len(block) - start - counter.itemsize) // entry.itemsize)
    entries = np.frombuffer(block, entry, there, start + counter.itemsize)
    counts = np.minimum(entries["count"].astype(np.float64), len(block))
    sizes = np.minimum(counts * _UNITS[entries["kind"]], len(block))
    return float(sizes.sum()) > 4 * len(block) + _SPARE


def hostile(data: bytes) -> str | None:
    """What makes a TIFF, JPEG or GIF too expensive to open or decode; None for other files."""
    if data[:3] == b"GIF":
        num_bytes = _extension_bytes(data)
        return f"{num_bytes} bytes of comments" if num_bytes > _SPARE else None
    if data[:2] in {b"II", b"MM"}:
        return _SHARED if is_inflated(data) else None
    if data[:2] != b"\xff\xd8":
        return None
    scans = data.count(b"\xff\xda") if has_several_scans(data) else 1
    if scans > _MOST_SCANS:
        return f"{scans} scans"
    exif, others = b"", []
    for kind, body in _segments(data):
        if kind == 0xFFE1 and body.startswith(b"Exif\0\0"):
            exif += body[6:]
        elif kind == 0xFFE2 and body.startswith(b"MPF\0"):
            others.append(body[4:])
    return _SHARED if any(is_inflated(block) for block in (exif, *others)) else None


def has_several_scans(data: bytes) -> bool:
    """Whether libjpeg keeps all coefficients of a JPEG: it is progressive, or its first scan lacks a component."""
    components = 0
    for kind, body in _segments(data):
        if kind in _PROGRESSIVE:
            return True
        if kind in _FRAMES:
            components = body[5] if len(body) > 5 else 0
        if kind == _START_OF_SCAN:
            return not body or body[0] < components
    return True


def inflated_info(opened: "Image") -> bool:
    """Whether the EXIF block that an opened or loaded photo carries has such a directory."""
    exif, raw = opened.info.get("exif"), opened.info.get(_RAW)
    if isinstance(exif, bytes):
        return is_inflated(exif)
    return isinstance(raw, str) and is_inflated(bytes.fromhex("".join(raw.split("\n")[3:])))


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of the segments up to the first scan, as Pillow finds them."""
    from PIL.JpegImagePlugin import MARKER

    place = 2
    while 0 <= (place := data.find(b"\xff", place)) <= len(data) - 4:
        kind = int.from_bytes(data[place : place + 2], "big")
        if kind not in MARKER or MARKER[kind][2] is None:  # fill bytes and markers without content
            place += 1 if kind == _FILL else 2
            continue
        length = max(2, int.from_bytes(data[place + 2 : place + 4], "big"))
        yield kind, data[place + 4 : place + 2 + length]
        if kind == _START_OF_SCAN:
            return
        place += 2 + length


def _extension_bytes(data: bytes) -> int:
    """Bytes of the extension blocks of a GIF before its third image; Pillow reads no further."""
    place, found, images = 13 + _palette_bytes(data[10:11]), 0, 0
    while images < 2 and place + 10 < len(data):
        start = place
        if data[place] == _IMAGE:
            images += 1
            place += 11 + _palette_bytes(data[place + 9 : place + 10])
        elif data[place] == _EXTENSION:
            place += 2
        else:
            place += 1
            continue
        extension = data[start] == _EXTENSION
        while place < len(data) and data[place]:
            place += 1 + data[place]
        place += 1
        found += place - start if extension else 0
    return found


def _palette_bytes(flags: bytes) -> int:
    return 3 << (flags[0] & 7) + 1 if flags and flags[0] & 0x80 else 0
