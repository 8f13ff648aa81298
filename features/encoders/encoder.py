"""Encoders of photos and of texts, whatever library they come from.

Reads pixels (uint8) or PIL images, or strings. Returns float32 rows, L2-normalised by default. Always uses the model's
own preprocessing or tokenizer; half precision is used on GPUs only, where it is faster.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32, UInt8

from features.encoders.config import ClipParams
from features.errors import TrainingError
from features.runtime import torchrun
from features.store.embeddings import unit_rows
from features.vision.preprocessing import Fit, normalised

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import Tensor
else:
    Tensor = Any  # torch is imported late; the tests check dtypes and shapes all the same

UNTRAINED = "untrained"


@dataclass(frozen=True, kw_only=True)
class Placed:
    """What every loaded encoder has.

    `width` is D, the length of a feature. `dtype` is the model's input type. `description` is for manifests.
    """

    model: Any
    width: int
    device: str
    dtype: "torch.dtype"
    normalise: bool
    description: dict[str, Any]

    def checked(self, features: Float[Tensor, "N D"]) -> Float32[np.ndarray, "N D"]:
        """The features as NumPy rows, after checking that they are finite and D wide."""
        rows: np.ndarray = features.float().cpu().numpy()
        if rows.shape[1:] != (self.width,) or not np.isfinite(rows).all():
            raise TrainingError(
                f"features of shape {rows.shape}, finite: {bool(np.isfinite(rows).all())}",
                f"finite features of width {self.width}",
                "check clip.pretrained, or choose clip.precision: fp32 or another clip.model",
            )
        return unit_rows(rows) if self.normalise else rows


@dataclass(frozen=True, kw_only=True)
class ImageEncoder(Placed):
    """An image model with its own preprocessing.

    `fit` converts one PIL image to pixels and may run in threads and processes. `forward` takes pixels of the model's
    input type, (N, 3, H, W). `copies` is the side stream for transfers to a GPU, None on a CPU.
    """

    fit: Fit
    forward: Callable[[Any], Any]
    copies: "torch.cuda.Stream | None" = None

    def encode_images(self, images: Sequence["Image"]) -> Float32[np.ndarray, "N D"]:
        """Encodes RGB images into features, in order."""
        if not images:
            return np.zeros((0, self.width), np.float32)
        import torch

        return self.start(torch.from_numpy(np.stack([self.fit(image) for image in images])))()

    def start(self, pixels: UInt8[Tensor, "N H W 3"]) -> Callable[[], Float32[np.ndarray, "N D"]]:
        """Starts encoding `pixels`; calling the returned function gives their features.

        On a GPU all work is queued without waiting: pinned `pixels` are copied on the side stream while the previous
        batch is encoded. They must not be modified until the returned function has returned.
        """
        import torch

        with torch.inference_mode(), room_on(self.device):
            if self.copies is None:
                encoded = self._encode(pixels.to(self.device)).cpu()
                return lambda: self.checked(encoded)
            compute = torch.cuda.current_stream(self.device)
            with torch.cuda.stream(self.copies):
                moved = pixels.to(self.device, non_blocking=True)
            compute.wait_stream(self.copies)
            moved.record_stream(compute)
            features = self._encode(moved)
            host = torch.empty(features.shape, dtype=features.dtype, pin_memory=True)
            host.copy_(features, non_blocking=True)
            done = torch.cuda.Event()  # type: ignore[no-untyped-call]
            done.record(compute)

        def result() -> Float32[np.ndarray, "N D"]:
            done.synchronize()
            return self.checked(host)

        return result

    def _encode(self, pixels: UInt8[Tensor, "N H W 3"]) -> Float32[Tensor, "N D"]:
        features: Float32[Tensor, "N D"] = self.forward(normalised(pixels, self.fit).to(self.dtype)).float()
        return features


@dataclass(frozen=True, kw_only=True)
class TextEncoder(Placed):
    """A text model with its own tokenizer; `forward` takes strings and returns their features, (N, D)."""

    forward: Callable[[list[str]], Any]

    def encode_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "N D"]:
        """Encodes texts into features, in order; texts are truncated to the model's context."""
        if not texts:
            return np.zeros((0, self.width), np.float32)
        import torch

        with torch.inference_mode(), room_on(self.device):
            return self.checked(self.forward(list(texts)))


@contextmanager
def room_on(device: str) -> Iterator[None]:
    """Converts out-of-memory errors of the device to TrainingError."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"too little memory on {device}: {str(error)[:200]}", "room for one batch", "lower batch_size"
        ) from error


@contextmanager
def seeded(params: ClipParams) -> Iterator[None]:
    """Sets the CPU threads, and draws weights from `clip.seed` without changing torch's own generator."""
    import torch

    torch.set_num_threads(params.threads or cores())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(params.seed)
        yield


def placement(params: ClipParams) -> tuple[str, str]:
    """The device and the precision to which `params` resolve on this machine."""
    device = torchrun.resolve_device(params.device)
    precision = params.precision
    if precision == "auto":
        precision = "fp16" if device.startswith("cuda") else "fp32"
    return device, precision


def moved_to(model: Any, device: str, dtype: "torch.dtype | None" = None) -> Any:
    """The model in evaluation mode on `device`, converted to `dtype` if one is given."""
    import torch

    if device.startswith("cuda"):
        torch.cuda.set_device(device)
    return model.to(device=device, dtype=dtype).eval()


def dtype_of(precision: str) -> "torch.dtype":
    """The torch type of fp32, fp16 or bf16."""
    import torch

    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[precision]


def side_stream(device: str) -> "torch.cuda.Stream | None":
    """A new stream for transfers to a GPU; None on a CPU."""
    import torch

    return torch.cuda.Stream(device) if device.startswith("cuda") else None  # type: ignore[no-untyped-call]


def cores() -> int:
    """Cores available to this process: its CPU affinity divided by the number of local torchrun processes."""
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, num_cores // torchrun.local_world())
