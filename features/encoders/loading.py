"""The one door to the encoders: loads those of the section `clip`, whatever library they come from.

Reads the section `clip`. Returns encoders, the width of their features, their description for manifests, and the key of
their cache. A name decides the library: `timm/NAME`, `hf/FOLDER`, anything else is open_clip's.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

from features.encoders import hf_texts, open_clip_models, timm_images
from features.encoders.config import ClipParams, Tower
from features.encoders.encoder import UNTRAINED, ImageEncoder, TextEncoder
from features.encoders.registry import HF, TIMM
from features.errors import InputError, ParamsError
from features.runtime.params import digest
from features.store.tables import file_digest

_CODE = ("encoders/encoder.py", "vision/image_decoding.py", "vision/preprocessing.py")
_LIBRARIES = ("torch", "torchvision", "pillow")
NO_TEXTS: dict[str, Any] = {
    "model": "none (clip.text_model is not set)", "pretrained": None, "untrained": False, "seed": None,
    "normalised": None, "precision": None,
}  # fmt: skip
"""Description of the features of titles where no model encodes texts."""


def load_image_encoder(params: ClipParams, tower: Tower | None = None) -> ImageEncoder:
    """Loads an encoder of photos: `tower` of `params.image_towers`, by default the first.

    Raises:
        ParamsError: The name is unknown, or that of a text encoder; the message suggests known ones.
        InputError: The weights do not fit the model, or could not be downloaded.
    """
    tower = tower or params.image_towers[0]
    with _named(_place(tower, params)):
        encoder: ImageEncoder = _of_images(tower).load_images(tower, params)
    return encoder


def load_text_encoder(params: ClipParams) -> TextEncoder:
    """Loads the encoder of titles.

    Raises:
        ParamsError: The name is unknown, or no model encodes texts.
        InputError: There is no such folder, or its weights do not fit the model or could not be downloaded.
    """
    tower = text_tower(params)
    if tower is None:
        raise ParamsError(
            f"clip.model = {params.model}, an image model, asked for texts", "an encoder of texts",
            f"set clip.text_model to an open_clip name, or to {HF}FOLDER",
        )  # fmt: skip
    with _named(_text_place(params)):
        encoder: TextEncoder = _of_texts(tower).load_texts(tower, params)
    return encoder


def text_tower(params: ClipParams) -> Tower | None:
    """The encoder of titles: `text_model`, or the text half of `model`; None if `model` is an image model.

    Raises:
        ParamsError: `text_model` is an image model.
    """
    if params.text_model is not None:
        tower = Tower(model=params.text_model, pretrained=params.text_pretrained)
        _of_texts(tower)
        return tower
    return None if params.model.startswith(TIMM) else params.image_towers[0]


def image_width(tower: Tower, params: ClipParams) -> int:
    """The length of a photo's feature by one encoder; no weights are created or read."""
    with _named(_place(tower, params)):
        return int(_of_images(tower).width(tower))


def text_width(params: ClipParams) -> int:
    """The length of a title's feature; 1 if no model encodes texts."""
    tower = text_tower(params)
    with _named(_text_place(params)):
        return 1 if tower is None else int(_of_texts(tower).width(tower))


def feature_width(params: ClipParams) -> int:
    """The length of a photo's feature by all encoders together."""
    return sum(image_width(tower, params) for tower in params.image_towers)


def describe_images(params: ClipParams) -> dict[str, Any]:
    """Description of the encoders of photos for manifests; of several, `encoders` lists each."""
    each: list[dict[str, Any]] = [_of_images(tower).describe(tower, params) for tower in params.image_towers]
    if len(each) == 1:
        return each[0]
    joined = {key: " + ".join(str(one[key] or UNTRAINED) for one in each) for key in ("model", "pretrained")}
    shared = {key: each[0][key] for key in ("normalised", "precision")}
    untrained = any(one["untrained"] for one in each)
    return joined | shared | {"untrained": untrained, "seed": params.seed if untrained else None, "encoders": each}


def describe_texts(params: ClipParams) -> dict[str, Any]:
    """Description of the encoder of titles for manifests."""
    tower = text_tower(params)
    return NO_TEXTS if tower is None else dict(_of_texts(tower).describe(tower, params))


def image_cache_key(tower: Tower, params: ClipParams, **more: object) -> str:
    """Digest of everything that determines a photo's feature by one encoder, and `more`."""
    with _named(_place(tower, params)):
        return _key(_of_images(tower), tower, params, more)


def text_cache_key(params: ClipParams, **more: object) -> str:
    """Digest of everything that determines a title's feature, and `more`."""
    tower = text_tower(params)
    with _named(_text_place(params)):
        return digest(more) if tower is None else _key(_of_texts(tower), tower, params, more)


def _key(kind: Any, tower: Tower, params: ClipParams, more: dict[str, object]) -> str:
    """The digest over encoder, weights, precision, code and libraries."""
    here = Path(__file__).parents[1]
    return digest({
        "encoder": kind.describe(tower, params) | kind.more_of_key(tower),
        "code": {name: file_digest(here / name) for name in (*_CODE, *kind.CODE)},
        "libraries": {name: version(name) for name in (*_LIBRARIES, *kind.LIBRARIES)},
        **more,
    })  # fmt: skip


def _place(tower: Tower, params: ClipParams) -> str:
    """Where the parameters of an encoder of photos stand, such as `clip.also[0].`."""
    number = params.image_towers.index(tower)
    return f"clip.also[{number - 1}]." if number else "clip."


def _text_place(params: ClipParams) -> str:
    return "clip." if params.text_model is None else "clip.text_"


@contextmanager
def _named(place: str) -> Iterator[None]:
    """Lets errors about `clip.model` and `clip.pretrained` name the parameters at `place`."""
    try:
        yield
    except (ParamsError, InputError) as error:
        parts = (error.found, error.expected, error.action)
        named = [part.replace("clip.model", f"{place}model").replace("clip.pretrained", f"{place}pretrained")
                 for part in parts]  # fmt: skip
        raise type(error)(*named) from error


def _of_images(tower: Tower) -> Any:
    if tower.model.startswith(HF):
        raise ParamsError(
            f"{tower.model} as an encoder of photos", f"an open_clip name, or an image model {TIMM}NAME",
            "set clip.model to one, and clip.text_model to this text encoder",
        )  # fmt: skip
    return timm_images if tower.model.startswith(TIMM) else open_clip_models


def _of_texts(tower: Tower) -> Any:
    if tower.model.startswith(TIMM):
        raise ParamsError(
            f"clip.text_model = {tower.model}, an image model", f"an open_clip name, or {HF}FOLDER",
            "choose one of them, or null: no title features beside an image model",
        )  # fmt: skip
    return hf_texts if tower.model.startswith(HF) else open_clip_models
