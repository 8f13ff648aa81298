"""Converts decoded photos of any mode into 8-bit RGB.

Reads PIL images. Returns new ones, or the same if it is RGB already.
Trade-off: modes that take several steps are converted strip by strip, which needs no more memory than the result.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL.Image import Image

LAYERED = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})
_STRIP_PIXELS = 1 << 17


def to_rgb(image: "Image") -> "Image":
    """`image` as 8-bit RGB; modes that need more memory on the way are converted strip by strip."""
    deep = image.mode.startswith("I") or image.mode == "F"
    if not deep and image.mode not in LAYERED and "transparency" not in image.info:
        return image if image.mode == "RGB" else image.convert("RGB")
    from PIL import Image

    convert = _eight_bit(image) if deep else _on_white
    if image.width * image.height <= _STRIP_PIXELS:
        return convert(image)
    whole, rows = Image.new("RGB", image.size), max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        whole.paste(convert(strip), (0, top))
    return whole


def _on_white(image: "Image") -> "Image":
    from PIL import Image

    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")


def _eight_bit(image: "Image") -> "Callable[[Image], Image]":
    """Scales levels to 0 to 255 by the greatest level of the whole image; PIL's own conversion clips them at 255."""
    from PIL import Image

    rows = max(1, _STRIP_PIXELS // image.width)
    boxes = [(0, top, image.width, min(top + rows, image.height)) for top in range(0, image.height, rows)]
    greatest = float(np.max([np.asarray(image.crop(box)).max() for box in boxes]))
    top = 255.0 if greatest <= 255 and image.mode != "I;16" else max(65535.0, greatest)

    def convert(strip: Image.Image) -> Image.Image:
        levels = np.asarray(strip, dtype=np.float64)
        return Image.fromarray(np.clip(np.rint(levels * (255.0 / top)), 0, 255).astype(np.uint8)).convert("RGB")

    return convert
