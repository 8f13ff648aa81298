"""Synthetic photos for tests: valid ones, and one for every reject reason."""

import io
import struct
import zlib

from PIL import Image

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220)}


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def drawing(colour: str = "red", size: tuple[int, int] = (60, 40)) -> Image.Image:
    """A coloured picture whose upper left quarter is white."""
    image = Image.new("RGB", size, COLOURS[colour])
    image.paste("white", (0, 0, size[0] // 2, size[1] // 2))
    return image


def bomb() -> bytes:
    """A PNG of a few dozen bytes that claims 40,000 x 40,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    chunks = b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in (header, data, b"IEND")
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


def animation(kind: str = "GIF") -> bytes:
    """Two frames, red and then blue."""
    return encoded(drawing(), kind, save_all=True, append_images=[drawing("blue")], duration=100)


def tracking_pixel() -> bytes:
    """The 1 x 1 transparent GIF that web pages count their readers with."""
    return encoded(Image.new("P", (1, 1)), "GIF", transparency=0)


JPEG = encoded(drawing())
REJECTED = {
    "empty": b"",
    "not_an_image": b"<html><body>404</body></html>",
    "truncated": JPEG[: len(JPEG) // 2],
    "too_large": bomb(),
    "absurd_aspect": encoded(drawing(size=(2000, 20))),
    "too_small": encoded(drawing(size=(15, 40))),
    "placeholder": encoded(Image.new("RGB", (50, 50), (200, 200, 200))),
}
