"""The one door to open_clip: photos and titles in, feature vectors out.

Enters: PIL images and strings. Leaves: float32 rows, L2-normalised unless asked otherwise.
Trade-off: the model's own preprocessing and tokenizer, always, even where a shortcut (a smaller JPEG decode) would be
quicker: a feature equals what open_clip gives for the same photo alone.
"""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import InputError, ParamsError, TrainingError
from features.params import nearest
from features.vectors import unit_rows

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

log = logging.getLogger("vip5")

ALIASES = {"vitb32": "ViT-B-32", "vitb16": "ViT-B-16", "vitl14": "ViT-L-14", "rn50": "RN50", "rn101": "RN101"}
OWN_MODELS = Path(__file__).with_name("clip_models")


@dataclass(frozen=True, kw_only=True)
class ClipParams:
    """The shared section `clip`: which encoder `images` and `texts` use."""

    model: str
    """An open_clip model name, an alias (vitb32, vitb16, vitl14, rn50, rn101), or a file of features/clip_models."""
    pretrained: str | None = None
    """An open_clip weights tag (fetched from a hub), the path of a local .safetensors file, or null: untrained."""
    quick_gelu: bool | None = None
    """Activation of the MLPs: null as model and tag say; true for OpenAI's weights given as a local file."""
    seed: int = 0
    """Draws the weights of an untrained encoder."""
    normalise: bool = True
    """Scale every feature to length 1. Whether the original did is unknown; CLIP was trained on such features."""
    threads: int = 1
    """Threads of the encoder on a CPU; 0 for one a core, which a model of the size of ViT-B-32 repays."""
    device: str = "auto"
    """Where the encoder runs: auto (cuda where there is one), cpu, cuda, cuda:1."""

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise ValueError(f"threads = {self.threads} is negative")


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A CLIP model with its own preprocessing and tokenizer; made by `load_encoder`.

    `width` is D, the length of a feature. `prepare` turns one PIL image into the model's input (3, H, W) and is safe to
    call from several threads.
    """

    model: Any
    prepare: Callable[["Image"], "torch.Tensor"]
    tokenize: Callable[[list[str]], "torch.Tensor"]
    width: int
    device: str
    normalise: bool
    description: dict[str, Any]

    def encode_images(self, images: Sequence["Image"]) -> np.ndarray:
        """Features (N, D) float32 of N RGB images, in their order."""
        return self.encode_prepared([self.prepare(image) for image in images])

    def encode_prepared(self, tensors: Sequence["torch.Tensor"]) -> np.ndarray:
        """Features (N, D) float32 of N images that went through `prepare`."""
        if not tensors:
            return np.zeros((0, self.width), np.float32)
        import torch

        return self._forward(self.model.encode_image, torch.stack(list(tensors)))

    def encode_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Features (N, D) float32 of N texts, in their order; a text beyond the model's context is cut there."""
        if not texts:
            return np.zeros((0, self.width), np.float32)
        return self._forward(self.model.encode_text, self.tokenize(list(texts)))

    def _forward(self, encode: Callable[..., "torch.Tensor"], batch: "torch.Tensor") -> np.ndarray:
        import torch

        with torch.inference_mode():
            found: np.ndarray = encode(batch.to(self.device)).float().cpu().numpy()  # (N, D)
        if found.shape[1] != self.width or not np.isfinite(found).all():
            raise TrainingError(
                f"features of shape {found.shape}, finite: {bool(np.isfinite(found).all())}",
                f"finite features of width {self.width}",
                "check clip.pretrained, or choose another clip.model",
            )
        return unit_rows(found) if self.normalise else found


def load_encoder(params: ClipParams) -> Encoder:
    """The encoder that `params` names, in evaluation mode on its device.

    Raises:
        ParamsError: an unknown model, tag or file; the line names the nearest known ones.
        InputError: the weights of a known tag could not be fetched.
    """
    import open_clip
    import torch

    name, config = _resolve(params)
    pretrained, quick_gelu = _weights(params, name)
    device = params.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if params.threads:
        torch.set_num_threads(params.threads)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(params.seed)
            model = open_clip.create_model(
                name, pretrained=pretrained, force_quick_gelu=quick_gelu, pretrained_text=False
            )
        model = model.to(device).eval()
    except RuntimeError as error:  # open_clip raises it for a failed download, foreign weights and an absent device
        raise InputError(
            f"clip.model {name} with clip.pretrained {params.pretrained} on {device}: {error}"[:400],
            "weights of that model, within reach", "give clip.pretrained a local .safetensors file, or null",
        ) from error  # fmt: skip
    untrained = params.pretrained is None
    if untrained:
        log.warning("clip: %s is UNTRAINED (clip.pretrained is null): features tell looks apart, not meanings", name)
    preprocessing = open_clip.transform.PreprocessCfg(**open_clip.model.get_model_preprocess_cfg(model))
    return Encoder(
        model=model,
        prepare=open_clip.transform.image_transform_v2(preprocessing, is_train=False),
        tokenize=open_clip.get_tokenizer(name),
        width=int(config["embed_dim"]),
        device=device,
        normalise=params.normalise,
        description=describe(params),
    )


def feature_width(params: ClipParams) -> int:
    """The length of a feature, from the model's configuration alone: no weights are made or read."""
    return int(_resolve(params)[1]["embed_dim"])


def describe(params: ClipParams) -> dict[str, Any]:
    """What a manifest says of the encoder; a local file of weights by its name and digest, not by its place."""
    pretrained = params.pretrained
    if pretrained is not None and Path(pretrained).is_file():
        from features.tables import file_digest

        pretrained = f"{Path(pretrained).name} sha256 {file_digest(Path(pretrained))[:16]}"
    return {
        "model": ALIASES.get(params.model, params.model),
        "pretrained": pretrained,
        "untrained": pretrained is None,
        "seed": params.seed if pretrained is None else None,
        "normalised": params.normalise,
    }


def _resolve(params: ClipParams) -> tuple[str, dict[str, Any]]:
    """The open_clip name and configuration of `params.model`."""
    import open_clip

    for path in sorted(OWN_MODELS.glob("*.json")):
        if path.stem not in open_clip.list_models():
            open_clip.add_model_config(path)
    name = ALIASES.get(params.model, params.model).replace("/", "-")
    known = open_clip.list_models()
    if name not in known:
        raise ParamsError(
            f"clip.model = {params.model!r}", nearest(name, [*known, *ALIASES])[:400], "choose one of them"
        )
    config: dict[str, Any] = open_clip.get_model_config(name)
    text = config["text_cfg"]
    from_hub = text.get("hf_model_name") or text.get("hf_tokenizer_name") or "siglip" in name.lower()
    if from_hub and params.pretrained is None:
        raise ParamsError(
            f"clip.model = {name} without clip.pretrained", "a model whose tokenizer open_clip brings along",
            "name a tag (its tokenizer comes from a hub too), or choose a model such as ViT-B-32",
        )  # fmt: skip
    return name, config


def _weights(params: ClipParams, name: str) -> tuple[str | None, bool]:
    """What open_clip must load, and whether it must force QuickGELU, which OpenAI's weights were trained with."""
    import open_clip

    if params.pretrained is None:
        return None, bool(params.quick_gelu)
    tags = open_clip.list_pretrained_tags_by_model(name)
    if params.pretrained in tags:
        of_tag = open_clip.get_pretrained_cfg(name, params.pretrained).get("quick_gelu", False)
        return params.pretrained, bool(of_tag if params.quick_gelu is None else params.quick_gelu)
    path = Path(params.pretrained)
    if path.suffix == ".safetensors" and path.is_file():
        return str(path), bool(params.quick_gelu)
    raise ParamsError(
        f"clip.pretrained = {params.pretrained!r}",
        f"null, a .safetensors file, or a tag of {name}: {nearest(params.pretrained, tags) if tags else 'it has none'}",
        "choose one of them",
    )
