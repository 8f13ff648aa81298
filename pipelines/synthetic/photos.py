"""Draws the sample's photos: background hue and pattern show the style, a grey outline the category.

Reads an item's category and style. Returns the bytes of a JPEG, or of a broken file with that name.
Trade-off: flat shapes drawn with PIL are fast, and distinct enough for an untrained image encoder.
"""

import colorsys
import io
from typing import Any, Literal

import numpy as np

State = Literal["ok", "missing", "truncated", "text", "empty"]


def photo(category: int, style: int, num_styles: int, pixels: int, generator: np.random.Generator) -> bytes:
    """A JPEG of `pixels` by `pixels`: `style` sets hue and pattern, `category` the grey outline in the centre."""
    from PIL import Image, ImageDraw

    hue = (style / num_styles + float(generator.uniform(-0.015, 0.015))) % 1.0
    image = Image.new("RGB", (pixels, pixels), _rgb(hue, float(generator.uniform(0.6, 0.8)), 0.85))
    draw = ImageDraw.Draw(image)
    ink = _rgb(hue, 0.9, float(generator.uniform(0.35, 0.5)))
    for _ in range(10):
        x, y = (float(value) for value in generator.uniform(0, pixels, 2))
        _shape(draw, style % 8, (x, y), float(generator.uniform(0.05, 0.1)) * pixels, ink)
    grey = int(generator.integers(90, 200))
    _outline(draw, category, pixels, (grey, grey, grey))
    noise = generator.normal(0, 4, (pixels, pixels, 3))
    noisy = np.clip(np.asarray(image, dtype=np.float64) + noise, 0, 255).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noisy).save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def spoil(jpeg: bytes, state: State) -> bytes:
    """Simulates a broken download: the first third of the JPEG, an error page, or an empty file.

    Example:
        >>> spoil(b"abcdef", "truncated")
        b'ab'
    """
    match state:
        case "truncated":
            return jpeg[: len(jpeg) // 3]
        case "text":
            return b"<html><body>404: this photo has moved</body></html>\n"
        case "empty":
            return b""
        case _:
            return jpeg


def _rgb(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def _shape(draw: Any, pattern: int, at: tuple[float, float], r: float, ink: tuple[int, int, int]) -> None:
    x, y = at
    box = (x - r, y - r, x + r, y + r)
    width = max(int(r / 3), 1)
    match pattern:
        case 0:
            draw.ellipse(box, fill=ink)
        case 1:
            draw.rectangle(box, fill=ink)
        case 2:
            draw.polygon([(x, y - r), (x - r, y + r), (x + r, y + r)], fill=ink)
        case 3:
            draw.line([(0, y), (10 * x + 10 * r, y)], fill=ink, width=width)
        case 4:
            draw.line([(x - r, y), (x + r, y)], fill=ink, width=width)
            draw.line([(x, y - r), (x, y + r)], fill=ink, width=width)
        case 5:
            draw.ellipse(box, outline=ink, width=width)
        case 6:
            draw.polygon([(x, y - r), (x + r, y), (x, y + r), (x - r, y)], fill=ink)
        case _:
            draw.line([(x - r, y - r), (x + r, y + r)], fill=ink, width=width)
            draw.line([(x - r, y + r), (x + r, y - r)], fill=ink, width=width)


def _outline(draw: Any, category: int, pixels: int, grey: tuple[int, int, int]) -> None:
    """A grey silhouette in the central fifth of the photo, the same for all styles."""
    low, high, middle = 0.38 * pixels, 0.62 * pixels, 0.5 * pixels
    match category % 6:
        case 0:
            draw.arc((low, low, high, high), 180, 360, fill=grey, width=max(pixels // 24, 1))
        case 1:
            draw.rounded_rectangle((low, low, high, high), radius=pixels / 16, fill=grey)
        case 2:
            draw.polygon([(low, high), (middle, low), (high, high)], fill=grey)
        case 3:
            draw.ellipse((low, middle, high, high), fill=grey)
            draw.line([(middle, low), (middle, high)], fill=grey, width=max(pixels // 24, 1))
        case 4:
            draw.ellipse((low, low, high, high), fill=grey)
        case _:
            draw.polygon([(low, low), (high, low), (middle, high)], fill=grey)
