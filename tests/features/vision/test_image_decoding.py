import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from features.schema import PHOTO_REJECT_REASONS, PHOTO_TREATMENTS
from features.vision import image_decoding
from features.vision.image_decoding import Decoded, PhotoLimits, Rejection
from tests.features.made_photos import JPEG, REJECTED, animation, drawing, encoded, tracking_pixel


def decode(data: bytes, limits: PhotoLimits | None = None) -> Image.Image | Rejection:
    found = image_decoding.decode(data, limits or PhotoLimits())
    return found.image if isinstance(found, Decoded) else found


@pytest.mark.parametrize("reason", REJECTED)
def test_a_bad_photo_is_refused_with_its_reason(reason):
    found = decode(REJECTED[reason])
    assert isinstance(found, Rejection)
    assert found.reason == reason
    assert len(found.detail) <= 200


@pytest.mark.parametrize("cut", [4, 20, 100, 300])
def test_a_jpeg_cut_anywhere_is_truncated(cut):
    assert decode(JPEG[:cut], PhotoLimits()).reason == "truncated"


def test_a_png_cut_within_its_pixels_is_truncated():
    png = encoded(drawing(), "PNG")
    assert {decode(png[:cut], PhotoLimits()).reason for cut in range(8, png.index(b"IEND") - 16)} == {"truncated"}


def test_a_file_of_too_many_bytes_is_refused_before_it_is_opened():
    assert decode(JPEG, PhotoLimits(max_megabytes=1e-5)).reason == "too_large"


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "RGBA", "LA", "1", "I;16", "I"])
def test_every_colour_mode_becomes_eight_bit_rgb(mode):
    grey = drawing().convert("L")
    if mode in {"I;16", "I"}:
        levels = np.asarray(grey).astype(np.uint16) * 257
        source = encoded(Image.fromarray(levels if mode == "I;16" else levels.astype(np.int32)), "TIFF")
    else:
        source = encoded(drawing().convert(mode), "TIFF" if mode in {"CMYK", "LA"} else "PNG")
    found = decode(source, PhotoLimits())
    assert found.mode == "RGB"
    assert found.getpixel((2, 2)) == (255, 255, 255)
    assert found.getpixel((58, 38)) != (255, 255, 255)
    if mode in {"L", "LA", "I;16", "I"}:
        assert found.getpixel((58, 38)) == (grey.getpixel((58, 38)),) * 3


def test_transparent_parts_become_white():
    image = Image.new("RGBA", (40, 40), (200, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 20, 20))
    found = decode(encoded(image, "PNG"), PhotoLimits())
    assert (found.getpixel((5, 5)), found.getpixel((30, 30))) == ((255, 255, 255), (200, 0, 0))


@pytest.mark.parametrize(
    ("orientation", "size", "white"),
    [(1, (60, 40), (2, 2)), (3, (60, 40), (57, 37)), (6, (40, 60), (37, 2)), (8, (40, 60), (2, 57))],
)
def test_exif_rotation_is_applied(orientation, size, white):
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encoded(drawing(), exif=exif), PhotoLimits())
    assert found.size == size
    assert min(found.getpixel(white)) > 230


@pytest.mark.filterwarnings("ignore:.*EXIF:UserWarning")
def test_a_broken_exif_block_spoils_no_photo():
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40
    assert decode(encoded(drawing(), exif=exif), PhotoLimits()).size == (60, 40)


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(st.lists(st.tuples(st.integers(0, len(JPEG) - 1), st.integers(0, 255)), max_size=8), st.integers(0, len(JPEG)))
def test_whatever_the_bytes_there_is_an_rgb_image_or_a_reason(changes, length):
    data = bytearray(JPEG)
    for place, value in changes:
        data[place] = value
    found = decode(bytes(data[:length]), PhotoLimits())
    assert found.reason in PHOTO_REJECT_REASONS if isinstance(found, Rejection) else found.mode == "RGB"


def treatment(data: bytes) -> tuple[str, ...]:
    found = image_decoding.decode(data, PhotoLimits())
    assert isinstance(found, Decoded)
    return found.treatment


def test_a_tracking_pixel_is_too_small():
    assert decode(tracking_pixel()) == Rejection(reason="too_small", detail="1 x 1 pixels")


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_gives_its_first_frame_or_is_refused(kind):
    data = animation(kind)
    found = decode(data)
    red, _, blue = found.getpixel((50, 30))
    assert red > 180 > 80 > blue
    assert treatment(data)[0] == "first_frame"
    refused = decode(data, PhotoLimits(animated="reject"))
    assert refused == Rejection(reason="animated", detail=f"{kind} with several frames")
    assert isinstance(decode(encoded(drawing(), kind), PhotoLimits(animated="reject")), Image.Image)


def test_a_palette_with_alpha_is_laid_on_white():
    image = drawing()
    image.paste((0, 0, 250), (30, 0, 60, 20))
    image = image.quantize(8)
    hidden = image.getpixel((58, 38))
    data = encoded(image, "PNG", transparency=hidden)
    assert decode(data).getpixel((58, 38)) == (255, 255, 255)
    assert decode(data).getpixel((58, 2)) != (255, 255, 255)
    assert treatment(data) == ("on_white",)


def test_treatments_are_reported():
    exif = Image.Exif()
    exif[0x0112] = 6
    deep = Image.fromarray(np.asarray(drawing().convert("L")).astype(np.uint16) * 257)
    told = {
        "rotated": encoded(drawing(), exif=exif),
        "from_cmyk": encoded(drawing().convert("CMYK")),
        "from_16_bit": encoded(deep, "PNG"),
        "on_white": encoded(drawing().convert("RGBA"), "PNG"),
    }
    assert {name: treatment(data) for name, data in told.items()} == {name: (name,) for name in told}
    assert treatment(JPEG) == ()
    assert set(told) | {"first_frame", "misnamed"} == set(PHOTO_TREATMENTS)


def test_a_cmyk_jpeg_keeps_its_colours():
    found = decode(encoded(drawing("blue").convert("CMYK"), quality=95))
    red, green, blue = found.getpixel((50, 30))
    assert blue > red + 100
    assert blue > green + 100


def test_the_format_is_determined_by_the_bytes():
    kinds = {
        kind: image_decoding.decode(encoded(drawing(), kind), PhotoLimits()).kind for kind in image_decoding.FORMATS
    }
    assert kinds == {kind: kind for kind in image_decoding.FORMATS}


@pytest.mark.parametrize(("shrink_to", "size"), [(None, (800, 600)), (400, (800, 600)), (200, (400, 300)),
                                                 (150, (200, 150)), (10, (100, 75))])  # fmt: skip
def test_a_jpeg_is_decoded_smaller_only_as_far_as_it_may(shrink_to, size):
    found = image_decoding.decode(encoded(drawing(size=(800, 600))), PhotoLimits(), shrink_to)
    assert found.image.size == size
    other = image_decoding.decode(encoded(drawing(size=(800, 600)), "PNG"), PhotoLimits(), shrink_to)
    assert other.image.size == (800, 600)


def test_a_cut_jpeg_is_truncated_when_decoded_smaller_too():
    data = encoded(drawing(size=(800, 600)))
    assert image_decoding.decode(data[: len(data) // 2], PhotoLimits(), 100).reason == "truncated"


@pytest.mark.parametrize("mode", ["CMYK", "L"])
def test_a_rotated_jpeg_decoded_smaller_is_upright(mode):
    exif = Image.Exif()
    exif[0x0112] = 6
    found = image_decoding.decode(encoded(drawing(size=(800, 400)).convert(mode), exif=exif), PhotoLimits(), 100)
    assert found.image.size == (100, 200)
    assert min(found.image.getpixel((90, 10))) > 230
    assert found.treatment[-1] == "rotated"


@pytest.mark.parametrize("values", [{"min_side": 0}, {"max_megapixels": 100.0}, {"max_aspect": 0.5}])
def test_limits_out_of_range_are_refused(values):
    with pytest.raises(ValueError, match=r"must hold|is not in"):
        PhotoLimits(**values)
