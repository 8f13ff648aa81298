"""Wraps open_clip: loads the image or the text half of a model as an encoder.

Reads one encoder of the section `clip` and the settings that all share. Returns an `ImageEncoder` or a `TextEncoder`.
"""

import logging
from pathlib import Path
from typing import Any

from features.encoders.config import ClipParams, Tower
from features.encoders.encoder import UNTRAINED, ImageEncoder, TextEncoder, moved_to, placement, seeded, side_stream
from features.encoders.registry import ALIASES, is_untrained, resolve, weights
from features.encoders.weight_files import first_mismatch, is_weight_file, named, read_weights
from features.errors import InputError
from features.vision.preprocessing import fit_of

log = logging.getLogger("vip5")

CODE = ("encoders/open_clip_models.py", "encoders/registry.py")
LIBRARIES = ("open-clip-torch",)


def load_images(tower: Tower, params: ClipParams) -> ImageEncoder:
    """Loads the image half, in evaluation mode on its device.

    Raises:
        ParamsError: The model, tag or file is unknown; the message suggests known ones.
        InputError: The weights do not fit the model, or those of a known tag could not be downloaded.
    """
    import open_clip

    model, shared = _loaded(tower, params)
    return ImageEncoder(
        fit=fit_of(open_clip.model.get_model_preprocess_cfg(model)),
        forward=model.encode_image,
        copies=side_stream(shared["device"]),
        **shared,
    )


def load_texts(tower: Tower, params: ClipParams) -> TextEncoder:
    """Loads the text half; raises as `load_images`."""
    import open_clip

    model, shared = _loaded(tower, params)
    tokenize = open_clip.get_tokenizer(resolve(tower)[0])
    return TextEncoder(forward=lambda texts: model.encode_text(tokenize(texts).to(shared["device"])), **shared)


def _loaded(tower: Tower, params: ClipParams) -> tuple[Any, dict[str, Any]]:
    """The whole model and the fields that both kinds of encoder have."""
    import open_clip
    import torch

    name, config = resolve(tower)
    pretrained, quick_gelu = weights(tower, name)
    device, precision = placement(params)
    local = is_weight_file(pretrained)
    if local:
        read_weights(Path(str(pretrained)))  # open_clip's own errors about a damaged file are many lines
    try:
        with seeded(params):
            model = open_clip.create_model(
                name, pretrained=pretrained, precision=precision, force_quick_gelu=quick_gelu, pretrained_text=False
            )
        model = moved_to(model, device)
    except RuntimeError as error:  # raised by open_clip for a failed download, other weights or a missing device
        other = first_mismatch(error, Path(str(pretrained)).name) if local else None
        raise other or InputError(
            f"clip.model {name} with clip.pretrained {tower.pretrained} on {device}: {error}"[:400],
            "accessible weights of that model",
            f"set clip.pretrained to a local .safetensors file, or to `{UNTRAINED}`",
        ) from error  # fmt: skip
    if is_untrained(tower):
        log.warning("clip: %s is UNTRAINED (no clip.pretrained): features reflect appearance, not meaning", name)
    return model, {
        "model": model,
        "width": int(config["embed_dim"]),
        "device": device,
        "dtype": open_clip.get_input_dtype(precision) or torch.float32,
        "normalise": params.normalise,
        "description": describe(tower, params),
    }


def width(tower: Tower) -> int:
    """The length of a feature, from the model's configuration; no weights are created or read."""
    return int(resolve(tower)[1]["embed_dim"])


def describe(tower: Tower, params: ClipParams) -> dict[str, Any]:
    """Description of the encoder for manifests; local weight files are given by name and digest, not by path."""
    untrained = is_untrained(tower)
    pretrained = None if untrained else tower.pretrained
    if pretrained is not None and is_weight_file(pretrained):
        pretrained = named(pretrained)
    return {
        "model": ALIASES.get(tower.model, tower.model),
        "pretrained": pretrained,
        "untrained": untrained,
        "seed": params.seed if untrained else None,
        "normalised": params.normalise,
        "precision": placement(params)[1],
    }


def more_of_key(tower: Tower) -> dict[str, Any]:
    """What determines a feature beside the description."""
    return {"quick_gelu": tower.quick_gelu, "config": resolve(tower)[1]}
