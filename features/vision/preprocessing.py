"""Preprocesses RGB images into encoder input with the model's own transforms.

Reads PIL images of any size. Returns uint8 arrays (H, W, 3) and, on the encoder's device, floats (N, 3, H, W).
Trade-off: the preprocessing of open_clip or timm is split where pixels are still bytes. Workers transfer a quarter of
the memory and the device does the arithmetic; both halves together equal the library's result bit for bit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, UInt8

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image, Resampling
    from torch import Tensor
else:
    Tensor = Any  # torch is imported late; the tests check dtypes and shapes all the same


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Resizing and cropping of the model's preprocessing; picklable, for worker processes.

    `height` and `width` are the encoder's input size; `mean` and `std` are used by the second half, `normalised`.
    """

    steps: tuple[Any, ...]
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    description: str
    """Textual description of the preprocessing."""

    def __call__(self, image: "Image", whole: tuple[float, float] | None = None) -> UInt8[np.ndarray, "H W 3"]:
        """The pixels of an RGB image.

        Args:
            image: Upright RGB image.
            whole: If the image was decoded at scale 1/s, its original width and height divided by s, possibly
                fractional. Without them the image would be shifted by up to half an input pixel, an error ten times
                that of the reduced decoding itself.
        """
        if whole is not None and whole != image.size:
            width, height = self._resized(whole)
            image = image.resize((width, height), self._resample(), box=(0, 0, *whole))
        for step in self.steps:
            image = step(image)
        return np.asarray(image)

    def draft_side(self, ratio: float) -> int | None:
        """The minimum shorter side of a JPEG decoded at `ratio` times the size to which it is then resized.

        None if the preprocessing does not begin with a plain resize of the shorter side; then decode at full size.
        """
        plain = type(self.steps[0]).__name__ == "Resize" and isinstance(self.steps[0].size, int)
        return round(ratio * max(self.steps[0].size, self.height, self.width)) if plain else None

    def _resized(self, whole: tuple[float, float]) -> tuple[int, int]:
        """The size that the first step gives the full image (torchvision truncates the longer side)."""
        side: int = self.steps[0].size
        width, height = whole
        return (side, int(side * height / width)) if width <= height else (int(side * width / height), side)

    def _resample(self) -> "Resampling":
        from PIL.Image import Resampling

        return Resampling[self.steps[0].interpolation.name]


def fit_of(config: dict[str, Any]) -> Fit:
    """The first half of the preprocessing that `config` (open_clip's PreprocessCfg as a mapping) describes.

    Example:
        ViT-B-32: resize the shorter side to 224 (bicubic), then crop the central 224 x 224.
    """
    import open_clip

    chosen = open_clip.transform.PreprocessCfg(**config)
    steps = open_clip.transform.image_transform_v2(chosen, is_train=False).transforms
    names = [type(step).__name__ for step in steps]
    if names[-3:] != ["MaybeConvertMode", "MaybeToTensor", "Normalize"]:
        raise AssertionError(
            f"open_clip's preprocessing ends in {names[-3:]}: features/vision/preprocessing.py must follow it"
        )
    height, width = chosen.size if isinstance(chosen.size, tuple | list) else (chosen.size, chosen.size)
    return _split(steps[:-3], steps[-1], height, width)


def fit_of_timm(config: dict[str, Any]) -> Fit:
    """The first half of the preprocessing that `config` (timm's resolve_model_data_config) describes.

    Example:
        tf_efficientnet_lite0: resize the shorter side to 256 (bicubic), then crop the central 224 x 224.
    """
    from timm.data import create_transform

    steps = create_transform(**config, is_training=False).transforms
    names = [type(step).__name__ for step in steps]
    if names[-2:] != ["MaybeToTensor", "Normalize"]:
        raise AssertionError(
            f"timm's preprocessing ends in {names[-2:]}: features/vision/preprocessing.py must follow it"
        )
    _, height, width = config["input_size"]
    return _split(steps[:-2], steps[-1], height, width)


def _split(steps: Sequence[Any], last: Any, height: int, width: int) -> Fit:
    return Fit(
        steps=tuple(steps),
        height=height,
        width=width,
        mean=tuple(float(value) for value in last.mean),
        std=tuple(float(value) for value in last.std),
        description="; ".join(str(step) for step in (*steps, last)),
    )


def normalised(pixels: UInt8[Tensor, "N H W 3"], fit: Fit) -> Float32[Tensor, "N 3 H W"]:
    """The second half: pixels to the model's input, on the pixels' device."""
    import torch

    scaled = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    return scaled.sub_(_by_channel(fit.mean, pixels.device)).div_(_by_channel(fit.std, pixels.device))


@lru_cache(maxsize=64)
def _by_channel(values: tuple[float, ...], device: "torch.device") -> Float32[Tensor, "3 1 1"]:
    """`values` on `device`, cached: copying it for each batch would synchronise the host with the GPU."""
    import torch

    return torch.tensor(values, device=device)[:, None, None]
