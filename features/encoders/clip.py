"""The one door to open_clip: photos and titles in, feature vectors out.

Enters: pixels (uint8) or PIL images, and strings. Leaves: float32 rows, L2-normalised unless asked otherwise.
Trade-off: the model's own preprocessing and tokenizer, always; half precision on GPUs only, where it is faster.
"""

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.encoders.config import ClipParams
from features.encoders.registry import ALIASES, is_untrained, resolve, weights
from features.errors import InputError, TrainingError
from features.store.embeddings import unit_rows
from features.vision.preprocessing import Fit, fit_of, normalised

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

log = logging.getLogger("vip5")


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A CLIP model with its own preprocessing and tokenizer; made by `load_encoder`.

    `width` is D, the length of a feature. `fit` makes pixels of one PIL image and may run in threads and processes.
    `dtype` is what the model takes. `copies` is the side stream for transfers to a GPU, None on a CPU.
    """

    model: Any
    fit: Fit
    tokenize: Callable[[list[str]], "torch.Tensor"]
    width: int
    device: str
    dtype: "torch.dtype"
    normalise: bool
    description: dict[str, Any]
    copies: "torch.cuda.Stream | None" = None

    def encode_images(self, images: Sequence["Image"]) -> np.ndarray:
        """Features (N, D) float32 of N RGB images, in their order."""
        if not images:
            return np.zeros((0, self.width), np.float32)
        import torch

        return self.start(torch.from_numpy(np.stack([self.fit(image) for image in images])))()

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Features (N, D) float32 of N texts, in their order; a text beyond the model's context is cut there."""
        if not texts:
            return np.zeros((0, self.width), np.float32)
        import torch

        with torch.inference_mode(), _room_on(self.device):
            return self._checked(self.model.encode_text(self.tokenize(list(texts)).to(self.device)).float().cpu())

    def start(self, pixels: "torch.Tensor") -> Callable[[], np.ndarray]:
        """Begins to encode pixels (N, H, W, 3) uint8; the result of the returned call is (N, D) float32.

        On a GPU everything is queued and nothing waits: pinned `pixels` travel on the side stream while the batch
        before is encoded. They must stay untouched until the returned call is back.
        """
        import torch

        with torch.inference_mode(), _room_on(self.device):
            if self.copies is None:
                found = self._encode(pixels.to(self.device)).cpu()
                return lambda: self._checked(found)
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

        def result() -> np.ndarray:
            done.synchronize()
            return self._checked(host)

        return result

    def _encode(self, pixels: "torch.Tensor") -> "torch.Tensor":
        features: torch.Tensor = self.model.encode_image(normalised(pixels, self.fit).to(self.dtype)).float()
        return features  # (N, D)

    def _checked(self, features: "torch.Tensor") -> np.ndarray:
        found: np.ndarray = features.numpy()
        if found.shape[1] != self.width or not np.isfinite(found).all():
            raise TrainingError(
                f"features of shape {found.shape}, finite: {bool(np.isfinite(found).all())}",
                f"finite features of width {self.width}",
                "check clip.pretrained, or choose clip.precision: fp32 or another clip.model",
            )
        return unit_rows(found) if self.normalise else found


@contextmanager
def _room_on(device: str) -> Iterator[None]:
    """Says what to do where the device's memory does not suffice."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"too little memory on {device}: {str(error)[:200]}", "room for one batch", "lower batch_size"
        ) from error


def load_encoder(params: ClipParams) -> Encoder:
    """The encoder that `params` names, in evaluation mode on its device.

    Raises:
        ParamsError: an unknown model, tag or file; the line names the nearest known ones.
        InputError: the weights of a known tag could not be fetched.
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
    except RuntimeError as error:  # open_clip raises it for a failed download, foreign weights and an absent device
        raise InputError(
            f"clip.model {name} with clip.pretrained {params.pretrained} on {device}: {error}"[:400],
            "weights of that model, within reach", "give clip.pretrained a local .safetensors file, or `untrained`",
        ) from error  # fmt: skip
    if is_untrained(params):
        log.warning("clip: %s is UNTRAINED (no clip.pretrained): features tell looks apart, not meanings", name)
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
    """The device and the precision that `params` come down to here."""
    import torch

    device = params.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda":  # LOCAL_RANK is set by torchrun
        device = f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % max(1, torch.cuda.device_count())}"
    precision = params.precision
    if precision == "auto":
        precision = "fp16" if device.startswith("cuda") else "fp32"
    return device, precision


def cores() -> int:
    """The cores of this process: those it may run on, shared with the other processes that torchrun started here."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, found // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def feature_width(params: ClipParams) -> int:
    """The length of a feature, from the model's configuration alone: no weights are made or read."""
    return int(resolve(params)[1]["embed_dim"])


def describe(params: ClipParams) -> dict[str, Any]:
    """What a manifest says of the encoder; a local file of weights by its name and digest, not by its place."""
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
