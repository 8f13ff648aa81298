import pickle

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from features.pixels import fit_of, normalised

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
def test_both_halves_together_are_open_clips_preprocessing_to_the_bit(config, size):
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


def test_a_jpeg_keeps_so_many_times_the_longer_side_of_the_input():
    assert fit_of({"size": 224}).draft_side(4.0) == 896
    assert fit_of({"size": (24, 40)}).draft_side(1.5) == 60
