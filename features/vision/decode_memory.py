"""Bounds the memory of decoding: what one photo will take, and a budget that all decoding workers share.

Reads the header of a photo. Returns bytes: an upper bound on what the decoder and the conversion to RGB allocate.
Trade-off: the bound is taken from the header before anything is allocated, so a photo may wait for memory that it
does not need; photos of usual size never wait.
"""

import ctypes
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from features.vision.hostile_structures import has_several_scans

if TYPE_CHECKING:
    from PIL.Image import Image

Take = Callable[[int], None]
"""Takes bytes of a budget, and waits for them; called at most once per photo."""
_ONE_BYTE, _TWO_BYTES = frozenset({"1", "L", "P"}), frozenset({"I;16", "I;16B", "I;16L", "I;16N"})
_CANVASES_OF_WEBP = 6  # 4 bytes each: two canvases, the decoder's pixels, the image, RGB and turned pixels
_MUCH = 32_000_000  # bytes from which on freed memory is given back; it takes about a millisecond
_TILE_WIDTH, _TILE_LENGTH = 322, 323
_BUFFERS = {"TIFF": 8, "GIF": 4, "BMP": 4}


def webp_canvas(data: bytes) -> tuple[int, int] | None:
    """Width and height of a WebP's canvas according to its first chunk; None for other files.

    The decoder allocates the whole canvas as soon as the file is opened.

    Example:
        >>> webp_canvas(b"RIFF....WEBPVP8X........" + bytes([99, 0, 0, 49, 0, 0]))
        (100, 50)
    """
    if len(data) < 25 or data[:4] != b"RIFF" or data[8:12] != b"WEBP":
        return None
    chunk = data[12:16]
    if chunk == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L":
        packed = int.from_bytes(data[21:25], "little")
        return 1 + (packed & 0x3FFF), 1 + (packed >> 14 & 0x3FFF)
    return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF


def webp_bytes(canvas: tuple[int, int], num_bytes: int) -> int:
    """Upper bound on the memory of a WebP of `num_bytes` bytes with this canvas."""
    return 4 * _CANVASES_OF_WEBP * canvas[0] * canvas[1] + 2 * num_bytes


def decode_bytes(opened: "Image", full: tuple[int, int], data: bytes, *, turned: bool) -> int:
    """Upper bound on the memory of decoding an opened photo that is no WebP, and of turning it into upright RGB.

    Args:
        opened: The photo, not loaded; its size is that at which it will be decoded.
        full: Width and height of the file. A JPEG of several scans is buffered in full whatever its decoding scale.
        data: The file.
        turned: Whether the pixels may be rotated afterwards.
    """
    own = 1 if opened.mode in _ONE_BYTE else 2 if opened.mode in _TWO_BYTES else 4
    converted = 0 if opened.mode == "RGB" else 5
    decoded = opened.width * opened.height * (own + converted + 4 * turned)
    return decoded + full[0] * full[1] * _buffered(opened, data) + _tile_bytes(opened) + len(data)


def _buffered(opened: "Image", data: bytes) -> int:
    """Bytes per pixel of the file that the decoder holds beside the image."""
    if opened.format in {"JPEG", "MPO"}:
        return 2 * int(getattr(opened, "layers", 4)) if has_several_scans(data) else 0
    return _BUFFERS.get(str(opened.format), 0)


def _tile_bytes(opened: "Image") -> int:
    """Bytes of one tile of a TIFF, which may be declared larger than the image."""
    tags = getattr(opened, "tag_v2", {})
    return 8 * int(tags.get(_TILE_WIDTH, 0)) * int(tags.get(_TILE_LENGTH, 0))


class MemoryBudget:
    """Bytes that photos share while they are decoded, in threads or, with `processes`, in processes.

    Args:
        num_bytes: Bytes in all. A photo that takes more has the budget for itself.
        processes: A `multiprocessing` context; the budget then has to be passed to a process when it is started.

    Example:
        >>> budget = MemoryBudget(100)
        >>> with budget.share() as take:
        ...     take(70)
        ...     budget.left
        30
        >>> budget.left
        100
    """

    def __init__(self, num_bytes: int, processes: Any = None) -> None:
        self.num_bytes = num_bytes
        self._changed: Any = threading.Condition() if processes is None else processes.Condition()
        self._taken: Any = _Count() if processes is None else processes.RawValue("q", 0)

    @property
    def left(self) -> int:
        """Bytes that no photo has taken."""
        return self.num_bytes - int(self._taken.value)

    @contextmanager
    def share(self) -> Generator[Take]:
        """Yields a function that takes bytes for one photo, once; they are given back when the block ends."""
        taken = 0

        def take(wanted: int) -> None:
            nonlocal taken
            wanted = min(wanted, self.num_bytes)
            with self._changed:
                self._changed.wait_for(lambda: wanted <= self.left)
                self._taken.value += wanted
                taken += wanted

        try:
            yield take
        finally:
            if taken:
                if taken >= _MUCH:
                    _trim()
                with self._changed:
                    self._taken.value -= taken
                    self._changed.notify_all()


def _trim() -> None:
    """Gives freed memory back to the system: glibc keeps blocks of up to 32 MB per thread."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


class _Count:
    value = 0
