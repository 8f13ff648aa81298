"""From an upright RGB image to the pixels that the encoder sees, by the model's own preprocessing.

Enters: PIL images of any size. Leaves: uint8 arrays (H, W, 3); on the encoder's device, normalised floats (N, 3, H, W).
Trade-off: open_clip's preprocessing is cut in two where pixels are still bytes, so that workers hand over a quarter of
the memory and the device does the arithmetic; both halves together give open_clip's own numbers to the bit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image


@dataclass(frozen=True, kw_only=True)
class Fit:
    """Resizing and cropping as the model's preprocessing does it; can be sent to worker processes.

    `height` and `width` are the encoder's input; `mean` and `std` belong to the second half, `normalised`.
    """

    steps: tuple[Callable[[Any], Any], ...]
    height: int
    width: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    told: str
    """The preprocessing in words, for a manifest and for what a feature is filed under."""

    def __call__(self, image: "Image") -> np.ndarray:
        """The pixels (H, W, 3) uint8 of an RGB image."""
        for step in self.steps:
            image = step(image)
        return np.asarray(image)

    def draft_side(self, ratio: float) -> int:
        """The shorter side, in pixels, that a JPEG must keep if it may be decoded at `ratio` times the input's size."""
        return round(ratio * max(self.height, self.width))


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
        raise AssertionError(f"open_clip's preprocessing ends in {names[-3:]}: features/pixels.py must follow it")
    height, width = chosen.size if isinstance(chosen.size, tuple | list) else (chosen.size, chosen.size)
    return Fit(
        steps=tuple(steps[:-3]),
        height=height,
        width=width,
        mean=tuple(float(value) for value in steps[-1].mean),
        std=tuple(float(value) for value in steps[-1].std),
        told="; ".join(str(step) for step in (*steps[:-3], steps[-1])),
    )


def normalised(pixels: "torch.Tensor", fit: Fit) -> "torch.Tensor":
    """The second half: pixels (N, H, W, 3) uint8 to the model's input (N, 3, H, W) float32, on the pixels' device."""
    import torch

    scaled = pixels.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format).div_(255)
    mean = torch.tensor(fit.mean, device=pixels.device)[:, None, None]
    std = torch.tensor(fit.std, device=pixels.device)[:, None, None]
    return scaled.sub_(mean).div_(std)
