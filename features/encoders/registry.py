"""Resolves names of open_clip models: aliases, built-in small models, weights tags and local weight files.

Reads one encoder of the section `clip`. Returns an open_clip name, its configuration and the weights to load.
Trade-off: a published architecture runs without weights only if `untrained` is requested; a forgotten tag is an error,
because its features would look valid and be meaningless.
"""

from pathlib import Path
from typing import Any

from features.encoders.config import Tower
from features.encoders.encoder import UNTRAINED
from features.encoders.weight_files import SUFFIXES, is_weight_file
from features.errors import ParamsError
from features.runtime.params import nearest

ALIASES = {"vitb32": "ViT-B-32", "vitb16": "ViT-B-16", "vitl14": "ViT-L-14", "rn50": "RN50", "rn101": "RN101"}
OWN_MODELS = Path(__file__).with_name("clip_models")
TIMM, HF = "timm/", "hf/"
"""Prefixes of image models of timm, and of local folders with a text encoder of transformers."""


def resolve(tower: Tower) -> tuple[str, dict[str, Any]]:
    """The open_clip name and configuration of `tower.model`.

    Raises:
        ParamsError: The model is unknown; the message suggests known ones.
    """
    import open_clip

    for path in sorted(OWN_MODELS.glob("*.json")):
        if path.stem not in open_clip.list_models():
            open_clip.add_model_config(path)
    name = ALIASES.get(tower.model, tower.model).replace("/", "-")
    known = open_clip.list_models()
    if name not in known:
        raise ParamsError(
            f"clip.model = {tower.model!r}", nearest(name, [*known, *ALIASES])[:400], "choose one of them"
        )
    config: dict[str, Any] = open_clip.get_model_config(name)
    text = config["text_cfg"]
    from_hub = text.get("hf_model_name") or text.get("hf_tokenizer_name") or "siglip" in name.lower()
    if from_hub and tower.pretrained in {None, UNTRAINED}:
        raise ParamsError(
            f"clip.model = {name} without clip.pretrained", "a model whose tokenizer is part of open_clip",
            "set a tag (its tokenizer comes from a hub too), or choose a model such as ViT-B-32",
        )  # fmt: skip
    return name, config


def weights(tower: Tower, name: str) -> tuple[str | None, bool]:
    """The weights that open_clip loads (None: nothing), and whether to force QuickGELU, as OpenAI's weights need.

    Raises:
        ParamsError: The model lacks the tag, or no tag is given for a model that has some; the message suggests tags.
    """
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name)
    if is_untrained(tower):
        if tower.pretrained is None and tags:
            raise ParamsError(
                f"clip.model = {name} without clip.pretrained", f"a tag of it, {nearest('', tags)}",
                f"set a tag, a .safetensors file, or {UNTRAINED} to draw the weights from clip.seed",
            )  # fmt: skip
        return None, bool(tower.quick_gelu)
    asked = str(tower.pretrained)
    if asked in tags:
        of_tag = open_clip.get_pretrained_cfg(name, asked).get("quick_gelu", False)
        return asked, bool(of_tag if tower.quick_gelu is None else tower.quick_gelu)
    if is_weight_file(asked):
        return asked, bool(tower.quick_gelu)
    raise ParamsError(
        f"clip.pretrained = {asked!r}",
        f"{UNTRAINED}, an existing file ({', '.join(sorted(SUFFIXES))}), or a tag of {name}: "
        f"{nearest(asked, tags) if tags else 'it has none'}",
        "choose one of them",
    )


def is_untrained(tower: Tower) -> bool:
    """Whether the encoder's weights are drawn at random instead of loaded."""
    return tower.pretrained in {None, UNTRAINED}
