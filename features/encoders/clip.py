"""Wraps open_clip: encodes photos and titles into feature vectors.

Reads pixels (uint8) or PIL images, and strings. Returns float32 rows, L2-normalised by default.
Always uses the model's own preprocessing and tokenizer; half precision is used on GPUs only, where it is faster.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float32, Int, UInt8

from features.encoders.config import ClipParams
from features.encoders.registry import ALIASES, is_untrained, resolve, weights
from features.errors import InputError, TrainingError
from features.runtime import torchrun
from features.store.embeddings import unit_rows
from features.vision.preprocessing import Fit, fit_of, normalised

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image
    from torch import Tensor
else:
    Tensor = Any  # torch is imported late; the tests check dtypes and shapes all the same

log = logging.getLogger("vip5")


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A CLIP model with its own preprocessing and tokenizer; created by `load_encoder`.

    `width` is D, the length of a feature. `fit` converts one PIL image to pixels and may run in threads and processes.
    `dtype` is the model's input type. `copies` is the side stream for transfers to a GPU, None on a CPU.
    """

    model: Any
    fit: Fit
    tokenize: Callable[[list[str]], Int[Tensor, "N L"]]
    width: int
    device: str
    dtype: "torch.dtype"
    normalise: bool
    description: dict[str, Any]
    copies: "torch.cuda.Stream | None" = None

    def encode_images(self, images: Sequence["Image"]) -> Float32[np.ndarray, "N D"]:
        """Encodes RGB images into features, in order."""
        if not images:
            return np.zeros((0, self.width), np.float32)
        import torch

        return self.start(torch.from_numpy(np.stack([self.fit(image) for image in images])))()

    def encode_texts(self, texts: Sequence[str]) -> Float32[np.ndarray, "N D"]:
        """Encodes texts into features, in order; texts are truncated to the model's context."""
        if not texts:
            return np.zeros((0, self.width), np.float32)
        import torch

        with torch.inference_mode(), _room_on(self.device):
            return self._checked(self.model.encode_text(self.tokenize(list(texts)).to(self.device)).float().cpu())

    def start(self, pixels: UInt8[Tensor, "N H W 3"]) -> Callable[[], Float32[np.ndarray, "N D"]]:
        """Starts encoding `pixels`; calling the returned function gives their features.

        On a GPU all work is queued without waiting: pinned `pixels` are copied on the side stream while the previous
        batch is encoded. They must not be modified until the returned function has returned.
        """
        import torch

        with torch.inference_mode(), _room_on(self.device):
            if self.copies is None:
                encoded = self._encode(pixels.to(self.device)).cpu()
                return lambda: self._checked(encoded)
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
            return self._checked(host)

        return result

    def _encode(self, pixels: UInt8[Tensor, "N H W 3"]) -> Float32[Tensor, "N D"]:
        features: Float32[Tensor, "N D"] = self.model.encode_image(normalised(pixels, self.fit).to(self.dtype)).float()
        return features

    def _checked(self, features: Float32[Tensor, "N D"]) -> Float32[np.ndarray, "N D"]:
        rows: np.ndarray = features.numpy()
        if rows.shape[1] != self.width or not np.isfinite(rows).all():
            raise TrainingError(
                f"features of shape {rows.shape}, finite: {bool(np.isfinite(rows).all())}",
                f"finite features of width {self.width}",
                "check clip.pretrained, or choose clip.precision: fp32 or another clip.model",
            )
        return unit_rows(rows) if self.normalise else rows


@contextmanager
def _room_on(device: str) -> Iterator[None]:
    """Converts out-of-memory errors of the device to TrainingError."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"too little memory on {device}: {str(error)[:200]}", "room for one batch", "lower batch_size"
        ) from error


def load_encoder(params: ClipParams) -> Encoder:
    """Loads the encoder that `params` describes, in evaluation mode on its device.

    Raises:
        ParamsError: The model, tag or file is unknown; the message suggests known ones.
        InputError: The weights of a known tag could not be downloaded.
    """
    import open_clip
    import torch

    name, config = resolve(params)
    pretrained, quick_gelu = weights(params, name)
    device, precision = placement(params)
    torch.set_num_threads(params.threads or cores())
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(params.seed)
            model = open_clip.create_model(
                name, pretrained=pretrained, precision=precision, force_quick_gelu=quick_gelu, pretrained_text=False
            )
        if device.startswith("cuda"):
            torch.cuda.set_device(device)
        model = model.to(device).eval()
    except RuntimeError as error:  # raised by open_clip for a failed download, other weights or a missing device
        raise InputError(
            f"clip.model {name} with clip.pretrained {params.pretrained} on {device}: {error}"[:400],
            "accessible weights of that model", "set clip.pretrained to a local .safetensors file, or to `untrained`",
        ) from error  # fmt: skip
    if is_untrained(params):
        log.warning("clip: %s is UNTRAINED (no clip.pretrained): features reflect appearance, not meaning", name)
    return Encoder(
        model=model,
        fit=fit_of(open_clip.model.get_model_preprocess_cfg(model)),
        tokenize=open_clip.get_tokenizer(name),
        width=int(config["embed_dim"]),
        device=device,
        dtype=open_clip.get_input_dtype(precision) or torch.float32,
        normalise=params.normalise,
        description=describe(params),
        copies=torch.cuda.Stream(device) if device.startswith("cuda") else None,  # type: ignore[no-untyped-call]
    )


def placement(params: ClipParams) -> tuple[str, str]:
    """The device and the precision to which `params` resolve on this machine."""
    device = torchrun.resolve_device(params.device)
    precision = params.precision
    if precision == "auto":
        precision = "fp16" if device.startswith("cuda") else "fp32"
    return device, precision


def cores() -> int:
    """Cores available to this process: its CPU affinity divided by the number of local torchrun processes."""
    num_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, num_cores // torchrun.local_world())


def feature_width(params: ClipParams) -> int:
    """The length of a feature, from the model's configuration; no weights are created or read."""
    return int(resolve(params)[1]["embed_dim"])


def describe(params: ClipParams) -> dict[str, Any]:
    """Description of the encoder for manifests; local weight files are given by name and digest, not by path."""
    untrained = is_untrained(params)
    pretrained = None if untrained else params.pretrained
    if pretrained is not None and Path(pretrained).is_file():
        from features.store.tables import file_digest

        pretrained = f"{Path(pretrained).name} sha256 {file_digest(Path(pretrained))[:16]}"
    return {
        "model": ALIASES.get(params.model, params.model),
        "pretrained": pretrained,
        "untrained": untrained,
        "seed": params.seed if untrained else None,
        "normalised": params.normalise,
        "precision": placement(params)[1],
    }
