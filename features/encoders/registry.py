"""Resolves encoder names: aliases, built-in small models, weights tags and local weight files.

Reads the section `clip`. Returns an open_clip name, its configuration and the weights to load.
Trade-off: a published architecture runs without weights only if `untrained` is requested; a forgotten tag is an error,
because its features would look valid and be meaningless.
"""

from pathlib import Path
from typing import Any

from features.encoders.config import ClipParams
from features.errors import ParamsError
from features.runtime.params import nearest

ALIASES = {"vitb32": "ViT-B-32", "vitb16": "ViT-B-16", "vitl14": "ViT-L-14", "rn50": "RN50", "rn101": "RN101"}
OWN_MODELS = Path(__file__).with_name("clip_models")
UNTRAINED = "untrained"


def resolve(params: ClipParams) -> tuple[str, dict[str, Any]]:
    """The open_clip name and configuration of `params.model`.

    Raises:
        ParamsError: The model is unknown; the message suggests known ones.
    """
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
    if from_hub and params.pretrained in {None, UNTRAINED}:
        raise ParamsError(
            f"clip.model = {name} without clip.pretrained", "a model whose tokenizer is part of open_clip",
            "set a tag (its tokenizer comes from a hub too), or choose a model such as ViT-B-32",
        )  # fmt: skip
    return name, config


def weights(params: ClipParams, name: str) -> tuple[str | None, bool]:
    """The weights that open_clip loads (None: nothing), and whether to force QuickGELU, as OpenAI's weights need.

    Raises:
        ParamsError: The model lacks the tag, or no tag is given for a model that has some; the message suggests tags.
    """
    import open_clip

    tags = open_clip.list_pretrained_tags_by_model(name)
    if is_untrained(params):
        if params.pretrained is None and tags:
            raise ParamsError(
                f"clip.model = {name} without clip.pretrained", f"a tag of it, {nearest('', tags)}",
                f"set a tag, a .safetensors file, or {UNTRAINED} to draw the weights from clip.seed",
            )  # fmt: skip
        return None, bool(params.quick_gelu)
    asked = str(params.pretrained)
    if asked in tags:
        of_tag = open_clip.get_pretrained_cfg(name, asked).get("quick_gelu", False)
        return asked, bool(of_tag if params.quick_gelu is None else params.quick_gelu)
    path = Path(asked)
    if path.suffix == ".safetensors" and path.is_file():
        return str(path), bool(params.quick_gelu)
    raise ParamsError(
        f"clip.pretrained = {asked!r}",
        f"{UNTRAINED}, an existing .safetensors file, or a tag of {name}: "
        f"{nearest(asked, tags) if tags else 'it has none'}",
        "choose one of them",
    )


def is_untrained(params: ClipParams) -> bool:
    """Whether the encoder's weights are drawn at random instead of loaded."""
    return params.pretrained in {None, UNTRAINED}
