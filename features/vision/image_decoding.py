"""Decodes photo bytes into an upright 8-bit RGB image, or a reason for rejecting them.

Returns a PIL image and the treatments applied (PHOTO_TREATMENTS), or a `Rejection` with one of PHOTO_REJECT_REASONS.
Trade-off: sizes and the memory that a decoder would allocate are checked in the header before decoding, so that a
decompression bomb costs nothing. The file's bytes, not its name, determine the format.
"""

import io
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from features.vision.decode_memory import Take, decode_bytes, webp_bytes, webp_canvas
from features.vision.hostile_structures import hostile, inflated_info
from features.vision.rgb_conversion import LAYERED, to_rgb

if TYPE_CHECKING:
    from PIL.Image import Image

FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM", b"II*\0", b"MM\0*")
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)
_SCALABLE = frozenset({"JPEG", "MPO"})
_ORIENTATION = 0x0112


@dataclass(frozen=True, kw_only=True)
class PhotoLimits:
    """Limits on file size, dimensions and content of a photo."""

    max_megabytes: float = 32.0
    """Maximum file size in MB (10^6 bytes); above it the photo is rejected as too_large."""
    max_megapixels: float = 64.0
    """Maximum size in megapixels (10^6 pixels) according to the header, at most 80; above it: too_large."""
    max_decode_megabytes: float = 1024.0
    """Memory in MB (10^6 bytes) that all decoding threads or processes share: a photo waits for its part of it, and
    one that alone takes more is rejected as too_large."""
    max_aspect: float = 20.0
    """Maximum ratio of longer to shorter side; above it the photo is rejected as absurd_aspect."""
    min_side: int = 16
    """Minimum shorter side in pixels; below it the photo is rejected as too_small."""
    min_contrast: int = 8
    """Minimum range of at least one colour channel (0 to 255); below it the photo is rejected as a placeholder."""
    animated: Literal["first_frame", "reject"] = "first_frame"
    """Treatment of an animated GIF, PNG or WebP: use its first frame, or reject the photo."""

    def __post_init__(self) -> None:
        if not 0 < self.max_megapixels <= 80:  # PIL itself warns from 89 megapixels on
            raise ValueError(f"max_megapixels = {self.max_megapixels} is not in (0, 80]")
        if self.max_decode_megabytes < 16:
            raise ValueError(f"max_decode_megabytes = {self.max_decode_megabytes} is below 16")
        if self.max_megabytes <= 0 or self.max_aspect < 1 or self.min_side < 1 or not 0 <= self.min_contrast <= 255:
            raise ValueError("max_megabytes > 0, max_aspect >= 1, min_side >= 1 and 0 <= min_contrast <= 255 must hold")


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """Why a photo was not used; `detail` is at most 200 characters."""

    reason: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """An upright RGB image.

    `kind` is the format of the bytes (JPEG, PNG, ...); `treatment` lists the steps beyond decoding, in the order of
    PHOTO_TREATMENTS. `whole` is set if a JPEG was decoded at scale 1/s: width and height divided by s, including
    fractions that the image's own size rounds up.
    """

    image: "Image"
    kind: str
    whole: tuple[float, float] | None = None
    treatment: tuple[str, ...] = ()


def decode(
    data: bytes, limits: PhotoLimits, shrink_to: int | None = None, take: Take | None = None
) -> Decoded | Rejection:
    """Decodes a photo into an upright RGB image, or returns the reason for rejecting it.

    EXIF rotation is applied; palette, grey, CMYK and 16-bit photos become 8-bit RGB; transparency is composited on
    white. An error that no decoder is known to raise rejects the photo as unreadable.

    Args:
        data: Bytes of one file.
        limits: Limits on the photo.
        shrink_to: Decode JPEGs at 1/2, 1/4 or 1/8 scale (libjpeg's scaled inverse transform) if both sides keep at
            least this many pixels; None decodes at full size.
        take: Called once with the bytes that decoding needs at most, before they are allocated; it may wait for them.

    Example:
        >>> decode(b"", PhotoLimits())
        Rejection(reason='empty', detail='0 bytes')
        >>> decode(b"<html>404</html>", PhotoLimits()).reason
        'not_an_image'
    """
    if not data:
        return Rejection(reason="empty", detail="0 bytes")
    if len(data) > limits.max_megabytes * 1e6:
        return Rejection(reason="too_large", detail=f"{len(data)} bytes")
    try:
        expensive = hostile(data)
        if expensive:
            return Rejection(reason="too_large", detail=expensive)
        return _refuse_canvas(data, limits, take) or _decode(data, limits, shrink_to, take)
    except Exception as error:  # noqa: BLE001 - whatever a decoder raises concerns this photo alone
        return unreadable(error)


def unreadable(error: Exception) -> Rejection:
    """The rejection of a photo or vector whose reading raised an unexpected `error`."""
    return Rejection(reason="unreadable", detail=_describe(error))


def _decode(data: bytes, limits: PhotoLimits, shrink_to: int | None, take: Take | None) -> Decoded | Rejection:
    opened = _open(data)
    if isinstance(opened, Rejection):
        return opened
    full = opened.size
    refused = _judge_size(*full, limits)
    if refused:
        return refused
    try:
        # Pillow looks for the orientation of a PNG behind its pixels, and decodes them.
        turned = opened.format not in _SCALABLE or _orientation(opened) in range(2, 9)
        whole = _shrink(opened, shrink_to, turned=turned)
        if opened.format != "WEBP":
            refused = _judge_memory(decode_bytes(opened, full, data, turned=turned), limits, take)
            if refused:
                return refused
        treatment = _treatment(opened)
        if "first_frame" in treatment and limits.animated == "reject":
            return Rejection(reason="animated", detail=f"{opened.format} with several frames")
        opened.load()
        image = _upright(to_rgb(opened), opened)
    except _BROKEN as error:
        return Rejection(reason="truncated", detail=_describe(error))
    ranges = _ranges(image, limits.min_contrast)
    if max(ranges) < limits.min_contrast:
        return Rejection(reason="placeholder", detail=f"one flat colour, channels vary by {ranges}")
    kind = "JPEG" if opened.format == "MPO" else str(opened.format)
    return Decoded(image=image, kind=kind, whole=whole, treatment=treatment)


def _refuse_canvas(data: bytes, limits: PhotoLimits, take: Take | None) -> Rejection | None:
    """Judges the canvas of a WebP, which the decoder allocates as soon as the file is opened."""
    canvas = webp_canvas(data)
    if canvas is None:
        return None
    return _judge_size(*canvas, limits) or _judge_memory(webp_bytes(canvas, len(data)), limits, take)


def _judge_memory(needed: int, limits: PhotoLimits, take: Take | None) -> Rejection | None:
    if needed > limits.max_decode_megabytes * 1e6:
        return Rejection(reason="too_large", detail=f"{needed / 1e6:.0f} MB of memory to decode it")
    if take is not None:
        take(needed)
    return None


def _shrink(opened: "Image", shrink_to: int | None, *, turned: bool) -> tuple[float, float] | None:
    """Sets the decoding scale of a JPEG to 1/8, 1/4 or 1/2; returns its scaled size, or None at full size.

    A rotated image whose sides are not divisible is decoded at full size: the fraction would move to another side.
    """
    if not shrink_to or opened.format not in _SCALABLE:
        return None
    width, height = opened.size
    for scale in (8, 4, 2):
        uneven = width % scale or height % scale
        if min(width, height) >= scale * shrink_to and not (turned and uneven):
            opened.draft(None, (width // scale, height // scale))
            size = (width / scale, height / scale)
            return (size[1], size[0]) if _orientation(opened) in range(5, 9) else size
    return None


def _treatment(opened: "Image") -> tuple[str, ...]:
    """Treatments that a photo needs according to its header; a broken EXIF block is ignored."""
    deep = opened.mode.startswith("I") or opened.mode == "F" or ";16" in str(getattr(opened, "tile", ""))
    applies = {
        "first_frame": opened.format in {"GIF", "PNG", "WEBP"} and getattr(opened, "is_animated", False),
        "from_cmyk": opened.mode == "CMYK",
        "from_16_bit": deep,
        "on_white": opened.mode in LAYERED or "transparency" in opened.info,
        "rotated": _orientation(opened) in range(2, 9),
    }
    return tuple(name for name, applied in applies.items() if applied)


def _ranges(image: "Image", enough: int) -> list[int]:
    """Range of each channel; computed on a sample of the pixels if that already varies by `enough`."""
    from PIL import Image

    sample = image.resize((32, 32), Image.Resampling.NEAREST)
    ranges = [high - low for low, high in sample.getextrema()]  # type: ignore[misc]  # three channels
    if max(ranges) < enough:
        ranges = [high - low for low, high in image.getextrema()]  # type: ignore[misc]
    return ranges


def _open(data: bytes) -> "Image | Rejection":
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        return Rejection(reason="too_large", detail=_describe(error))
    except UnidentifiedImageError:
        begins_well = data.startswith(_SIGNATURES)
        return Rejection(
            reason="truncated" if begins_well else "not_an_image",
            detail=f"{len(data)} bytes that begin with {data[:16]!r}",
        )
    except _BROKEN as error:
        return Rejection(reason="truncated", detail=_describe(error))


def _judge_size(width: int, height: int, limits: PhotoLimits) -> Rejection | None:
    detail = f"{width} x {height} pixels"
    if width * height > limits.max_megapixels * 1e6:
        return Rejection(reason="too_large", detail=detail)
    if max(width, height) > limits.max_aspect * min(width, height):
        return Rejection(reason="absurd_aspect", detail=detail)
    return Rejection(reason="too_small", detail=detail) if min(width, height) < limits.min_side else None


def _upright(pixels: "Image", original: "Image") -> "Image":
    """`pixels` rotated according to the original's EXIF block."""
    from PIL import Image

    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_90,
    }  # fmt: skip
    orientation = _orientation(original)
    return pixels.transpose(turns[orientation]) if orientation in turns else pixels


def _orientation(original: "Image") -> int | None:
    """The EXIF orientation; None if the block is missing or broken."""
    try:
        if original.format == "PNG" and "exif" not in original.info:
            original.load()  # the block may follow the pixels
        if inflated_info(original):
            return None
        orientation: int | None = original.getexif().get(_ORIENTATION)
    except _BROKEN:
        return None
    return orientation


def _describe(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:200]
