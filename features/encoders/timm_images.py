"""Wraps timm: loads an image model without its classifier as an encoder of photos.

Reads one encoder of the section `clip`, named `timm/NAME` or `timm/NAME.TAG`. The feature is the pooled output, that is
what the model returns with `num_classes=0`. A tag also decides the preprocessing, whatever the weights are.
"""

import logging
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from features.encoders.config import ClipParams, Tower
from features.encoders.encoder import UNTRAINED, ImageEncoder, dtype_of, moved_to, placement, seeded, side_stream
from features.encoders.registry import TIMM
from features.encoders.weight_files import SUFFIXES, is_weight_file, load_weights, named
from features.errors import InputError, ParamsError
from features.runtime.params import nearest
from features.vision.preprocessing import fit_of_timm

log = logging.getLogger("vip5")

CODE = ("encoders/timm_images.py", "encoders/weight_files.py")
LIBRARIES = ("timm",)
_HEADS = ("head", "head_dist", "fc", "classifier", "last_linear")


def load_images(tower: Tower, params: ClipParams) -> ImageEncoder:
    """Loads the model, in evaluation mode on its device.

    Raises:
        ParamsError: The model, tag or file is unknown; the message suggests known ones.
        InputError: The weights do not fit the model, or those of a tag could not be downloaded.
    """
    name = resolve(tower)
    device, precision = placement(params)
    with seeded(params):
        model = _created(name, tower)
    if is_weight_file(tower.pretrained):
        load_weights(model, Path(str(tower.pretrained)), _heads(model))
    if tower.pretrained == UNTRAINED:
        log.warning("clip: timm/%s is UNTRAINED: features reflect appearance, not meaning", name)
    model = moved_to(model, device, dtype_of(precision))
    return ImageEncoder(
        model=model,
        width=width(tower),
        device=device,
        dtype=dtype_of(precision),
        normalise=params.normalise,
        description=describe(tower, params),
        fit=fit_of_timm(_data_config(name)),
        forward=model,
        copies=side_stream(device),
    )


def resolve(tower: Tower) -> str:
    """The name of the model for timm, with the tag of `pretrained` if that is a tag.

    Raises:
        ParamsError: The model, tag or file is unknown; the message suggests known ones.
    """
    import timm
    from timm.models import get_arch_pretrained_cfgs

    asked = tower.model.removeprefix(TIMM)
    name, _, tag = asked.partition(".")
    if not timm.is_model(name):
        near = nearest(name, timm.list_models())[:400]
        raise ParamsError(
            f"clip.model = {tower.model!r}", f"a model of timm, {near}", "choose one of them after `timm/`"
        )
    known = list(get_arch_pretrained_cfgs(name))
    if tag and asked not in known:
        raise ParamsError(
            f"clip.model = {tower.model!r}", f"a tag of {name}, {_near(asked, known)}", "choose one of them"
        )
    if tower.pretrained == UNTRAINED or is_weight_file(tower.pretrained) or (tower.pretrained is None and tag):
        return asked
    tagged = f"{name}.{str(tower.pretrained).removeprefix(f'{name}.')}"
    if tower.pretrained is not None and tagged in known:
        return tagged
    raise ParamsError(
        f"clip.model = {tower.model} with clip.pretrained = {tower.pretrained!r}",
        f"{UNTRAINED}, an existing file ({', '.join(sorted(SUFFIXES))}), or a tag: {_near(tagged, known)}",
        "choose one of them",
    )  # fmt: skip


def _near(tagged: str, known: list[str]) -> str:
    return nearest(tagged, known)[:400] if known else "it has none"


def _created(name: str, tower: Tower) -> Any:
    """The model with random or downloaded weights, on the CPU."""
    import timm

    downloaded = tower.pretrained != UNTRAINED and not is_weight_file(tower.pretrained)
    try:
        return timm.create_model(name, pretrained=downloaded, num_classes=0)
    except (OSError, RuntimeError) as error:
        if not downloaded:
            raise
        raise InputError(
            f"no weights of timm/{name} ({str(error).splitlines()[0][:200]})",
            "a hub in reach, or weights in its cache",
            f"copy the file from a machine with a network and set clip.pretrained to its path, or to `{UNTRAINED}`",
        ) from error  # fmt: skip


def _heads(model: Any) -> tuple[str, ...]:
    """Names of the classifier that the model lacks."""
    own = model.pretrained_cfg.get("classifier") or ()
    return (*_HEADS, *((own,) if isinstance(own, str) else own))


@lru_cache(maxsize=16)
def _pooled_width(name: str) -> int:
    """The length of a feature, found without creating weights."""
    import timm
    import torch

    with torch.device("meta"), torch.inference_mode():
        model = timm.create_model(name, num_classes=0).eval()
        features = model(torch.empty(1, *_data_config(name)["input_size"]))
    if features.ndim != 2:
        raise ParamsError(
            f"clip.model = {TIMM}{name}, whose output without classifier has the shape {list(features.shape)}",
            "a model with one pooled feature per image", "choose another model of timm",
        )  # fmt: skip
    return int(features.shape[1])


@lru_cache(maxsize=16)
def _data_config(name: str) -> dict[str, Any]:
    import timm
    import torch
    from timm.data import resolve_model_data_config

    with torch.device("meta"):
        config: dict[str, Any] = resolve_model_data_config(timm.create_model(name, num_classes=0))
    return config


def width(tower: Tower) -> int:
    """The length of a feature; no weights are created or read."""
    return _pooled_width(resolve(tower))


def describe(tower: Tower, params: ClipParams) -> dict[str, Any]:
    """Description of the encoder for manifests; local weight files are given by name and digest, not by path."""
    name = resolve(tower)
    untrained, local = tower.pretrained == UNTRAINED, is_weight_file(tower.pretrained)
    return {
        "model": f"{TIMM}{name}",
        "pretrained": None if untrained else named(str(tower.pretrained)) if local else name.partition(".")[2],
        "untrained": untrained,
        "seed": params.seed if untrained else None,
        "normalised": params.normalise,
        "precision": placement(params)[1],
        "feature": f"pooled output of width {width(tower)}",
        "preprocessing": fit_of_timm(_data_config(name)).description,
        "library": f"timm {version('timm')}",
    }


def more_of_key(_tower: Tower) -> dict[str, Any]:
    """What determines a feature beside the description."""
    return {}
