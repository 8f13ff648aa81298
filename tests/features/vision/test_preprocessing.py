import io
import pickle

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode

from features.vision.image_decoding import PhotoLimits, decode
from features.vision.preprocessing import fit_of, normalised

CONFIGS = [
    {"size": 32},
    {"size": (32, 32), "interpolation": "bilinear"},
    {"size": (24, 40)},
    {"size": 32, "resize_mode": "squash"},
    {"size": 32, "resize_mode": "longest", "fill_color": 7, "mean": (0.5, 0.5, 0.5), "std": (0.25, 0.5, 0.5)},
]


def picture(size: tuple[int, int]) -> Image.Image:
    pixels = np.random.default_rng(3).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("config", CONFIGS)
@pytest.mark.parametrize("size", [(90, 70), (31, 70), (32, 32), (20, 21)])
def test_both_halves_equal_open_clips_preprocessing(config, size):
    fit = fit_of(config)
    image = picture(size)
    whole = open_clip.transform.image_transform_v2(open_clip.transform.PreprocessCfg(**config), is_train=False)
    pixels = fit(image)
    assert pixels.shape == (fit.height, fit.width, 3)
    assert pixels.dtype == np.uint8
    found = normalised(torch.from_numpy(pixels.copy())[None], fit)
    assert torch.equal(found[0], whole(image))
    assert found.is_contiguous()


@pytest.mark.parametrize("config", CONFIGS)
def test_the_first_half_survives_the_way_to_a_worker_process(config):
    fit = fit_of(config)
    again = pickle.loads(pickle.dumps(fit))  # noqa: S301 - our own bytes, as ProcessPoolExecutor sends them
    assert np.array_equal(again(picture((90, 70))), fit(picture((90, 70))))


def smooth(size: tuple[int, int]) -> bytes:
    """A JPEG whose every pixel tells its place."""
    x, y = np.meshgrid(np.linspace(0, 6, size[0]), np.linspace(0, 6, size[1]))
    pixels = np.stack([127 + 120 * np.sin(x), 127 + 120 * np.cos(y), 127 + 120 * np.sin(x + y)], axis=2)
    buffer = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(buffer, "JPEG", quality=95, subsampling=0)
    return buffer.getvalue()


@pytest.mark.parametrize("size", [(129, 171), (171, 129), (128, 170), (255, 300), (301, 260), (257, 523)])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_a_jpeg_decoded_smaller_is_not_shifted(size, orientation):
    fit = fit_of({"size": 32})
    data = smooth(size)
    if orientation > 1:
        exif = Image.Exif()
        exif[0x0112] = orientation
        buffer = io.BytesIO()
        Image.open(io.BytesIO(data)).save(buffer, "JPEG", quality=95, subsampling=0, exif=exif)
        data = buffer.getvalue()
    whole, small = decode(data, PhotoLimits()), decode(data, PhotoLimits(), fit.draft_side(2.0))
    assert (small.whole is None) == (orientation > 1 and any(side % 2 for side in size))
    difference = fit(whole.image).astype(float) - fit(small.image, small.whole)
    assert np.sqrt((difference**2).mean()) < 1.0


def test_only_a_plain_resize_lets_a_jpeg_be_decoded_smaller():
    sides = [fit_of(config).draft_side(2.0) for config in CONFIGS]
    assert sides == [64, 64, None, None, None]


def test_a_jpeg_keeps_so_many_times_the_side_of_the_input():
    assert fit_of({"size": 224}).draft_side(4.0) == 896


def test_later_batches_copy_no_constants_from_the_host():
    class Recorded(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            called.append(func)
            return func(*args, **(kwargs or {}))

    called = []
    fit = fit_of({"size": 8, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)})
    pixels = torch.zeros((2, 8, 8, 3), dtype=torch.uint8)
    lifted = torch.ops.aten.lift_fresh.default
    with Recorded():
        first = normalised(pixels, fit)
        assert called.count(lifted) == 2  # mean and std
        called.clear()
        assert torch.equal(normalised(pixels, fit), first)
    assert called
    assert lifted not in called
