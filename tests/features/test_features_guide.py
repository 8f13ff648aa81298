"""The recipes of docs/guides/features.md are valid sections `clip` of models that exist."""

from dataclasses import replace
from pathlib import Path

import open_clip
import pytest
import yaml
from markdown_it import MarkdownIt

from features.encoders import timm_images
from features.encoders.config import ClipParams, Tower
from features.encoders.registry import TIMM
from features.runtime.params import build

GUIDE = Path(__file__).parents[2] / "docs/guides/features.md"
RECIPES = [
    yaml.safe_load(token.content)["clip"]
    for token in MarkdownIt().parse(GUIDE.read_text(encoding="utf-8"))
    if token.info == "yaml"
]


def exists(tower: Tower) -> bool:
    """Whether the library knows the model and its tag."""
    if tower.model.startswith(TIMM):
        return timm_images.resolve(tower).startswith(tower.model.removeprefix(TIMM))
    return tower.pretrained in open_clip.list_pretrained_tags_by_model(tower.model)


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda recipe: recipe["model"].replace("/", "_"))
def test_a_recipe_names_models_that_exist(recipe, workspace):
    clip = build(ClipParams, recipe, where="clip")
    for tower in clip.image_towers:
        if tower.pretrained and tower.pretrained.endswith(".safetensors"):
            file = workspace / "weights.safetensors"
            file.touch()
            assert exists(replace(tower, pretrained=str(file)))
        else:
            assert exists(tower)
    assert clip.text_model is None or clip.text_model.startswith("hf/../downloads/")


def test_every_recipe_is_checked():
    assert len(RECIPES) == 4
