"""From an upright RGB image to the pixels that the encoder sees, by the model's own preprocessing.

Enters: PIL images of any size. Leaves: uint8 arrays (H, W, 3); on the encoder's device, normalised floats (N, 3, H, W).
Trade-off: open_clip's preprocessing is cut in two where pixels are still bytes, so that workers hand over a quarter of
the memory and the device does the arithmetic; both halves together give open_clip's own numbers to the bit.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image, Resampling


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Resizing and cropping as the model's preprocessing does it; can be sent to worker processes.

    `height` and `width` are the encoder's input; `mean` and `std` belong to the second half, `normalised`.
    """

    steps: tuple[Any, ...]
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    description: str
    """The preprocessing in words, for a manifest and for what a feature is filed under."""

    def __call__(self, image: "Image", whole: tuple[float, float] | None = None) -> np.ndarray:
        """The pixels (H, W, 3) uint8 of an RGB image.

        Args:
            image: upright.
            whole: where the image was decoded at 1/s of its size, its width and height divided by s, which need not be
                whole numbers: without them the picture would be moved by up to half a pixel of the input, which costs
                ten times what the smaller decoding itself does.
        """
        if whole is not None and whole != image.size:
            width, height = self._resized(whole)
            image = image.resize((width, height), self._resample(), box=(0, 0, *whole))
        for step in self.steps:
            image = step(image)
        return np.asarray(image)

    def draft_side(self, ratio: float) -> int | None:
        """The shorter side that a JPEG must keep if it may be decoded at `ratio` times the input's size.

        None where the preprocessing does not begin with a plain resize of the shorter side: then not at all.
        """
        plain = type(self.steps[0]).__name__ == "Resize" and isinstance(self.steps[0].size, int)
        return round(ratio * max(self.height, self.width)) if plain else None

    def _resized(self, whole: tuple[float, float]) -> tuple[int, int]:
        """The size that the first step would give the whole picture (torchvision cuts the longer side's fraction)."""
        side: int = self.steps[0].size
        width, height = whole
        return (side, int(side * height / width)) if width <= height else (int(side * width / height), side)

    def _resample(self) -> "Resampling":
        from PIL.Image import Resampling

        return Resampling[self.steps[0].interpolation.name]


def fit_of(config: dict[str, Any]) -> Fit:
    """The first half of the preprocessing that `config` (open_clip's PreprocessCfg as a mapping) describes.

    Example:
        ViT-B-32: resize the shorter side to 224 (bicubic), cut the middle 224 x 224 out.
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
    return Fit(
        steps=tuple(steps[:-3]),
        height=height,
        width=width,
        mean=tuple(float(value) for value in steps[-1].mean),
        std=tuple(float(value) for value in steps[-1].std),
        description="; ".join(str(step) for step in (*steps[:-3], steps[-1])),
    )


def normalised(pixels: "torch.Tensor", fit: Fit) -> "torch.Tensor":
    """The second half: pixels (N, H, W, 3) uint8 to the model's input (N, 3, H, W) float32, on the pixels' device."""
    import torch

    scaled = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    return scaled.sub_(_by_channel(fit.mean, pixels.device)).div_(_by_channel(fit.std, pixels.device))


@lru_cache(maxsize=64)
def _by_channel(values: tuple[float, ...], device: "torch.device") -> "torch.Tensor":
    """(3, 1, 1) on `device`, kept there: to bring it anew for each batch, the host would wait until the GPU is idle."""
    import torch

    return torch.tensor(values, device=device)[:, None, None]
