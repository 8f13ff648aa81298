"""Checkpoints are complete, loadable by the library's T5, and rejected for other datasets and backbones."""

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import T5ForConditionalGeneration

from features import schema
from features.errors import InputError, ModelError, TableError
from features.runtime.stage import Context
from features.store.tables import from_rows, write_table
from modeling import pretrain, train
from modeling.config.model import BackboneParams, Scratch
from modeling.config.training import Batching, LoopParams, Schedule, Validation
from modeling.models.checkpoints import load_backbone_only, load_vip5
from modeling.models.model_manifest import read_manifest, write_manifest
from modeling.models.t5 import new_t5, open_t5, resize_vocabulary, tokenizer_folder
from tests.modeling.world import BACKBONE, MADE, write_world

LOOP = LoopParams(
    schedule=Schedule(epochs=1), batching=Batching(batch_size=45), validation=Validation(examples_per_family=0)
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Context:
    place = write_world(tmp_path_factory.mktemp("world"))
    pretrain.run(pretrain.Params(**vars(LOOP)), place)
    train.run(train.Params(**vars(LOOP)), place)
    return place


@pytest.fixture
def place(trained: Context, tmp_path: Path) -> Context:
    """A copy that a test may modify."""
    shutil.copytree(trained.root, tmp_path / "copy")
    return replace(trained, root=tmp_path / "copy")


def test_manifests_name_the_inputs_of_the_models(trained: Context) -> None:
    backbone, vip5 = read_manifest(trained, "pretrain"), read_manifest(trained, "train")
    assert (backbone["dataset"], backbone["stage"], vip5["stage"]) == ("tiny", "pretrain", "train")
    assert backbone["backbone_digest"] == vip5["backbone_digest"]
    assert backbone["identifiers_digest"] == vip5["identifiers_digest"]
    assert vip5["num_visual_tokens"] == 2
    assert vip5["params"]["adapters"]["routing"] == "per_family"
    assert set(backbone["libraries"]) >= {"python", "torch", "transformers", "tokenizers"}
    assert "images/embeddings" in vip5["tables"]
    assert set(load_file(trained.model("train") / "trained.safetensors")) == set(vip5["tensors"])


def test_the_backbone_folder_is_a_stock_t5(trained: Context) -> None:
    model, _ = load_backbone_only(trained)
    stock = T5ForConditionalGeneration.from_pretrained(trained.model("pretrain"))
    for name, tensor in model.t5.state_dict().items():
        assert torch.equal(stock.state_dict()[name], tensor)


def test_a_model_of_another_dataset_is_rejected(place: Context) -> None:
    shutil.copytree(place.root / "models" / "tiny", place.root / "models" / "toys")
    with pytest.raises(
        ModelError, match=r"of dataset 'tiny'; expected dataset 'toys'; do: run `.venv/bin/dvc repro train`"
    ):
        load_vip5(replace(place, dataset="toys"))


def test_a_model_of_another_backbone_is_rejected(place: Context) -> None:
    pretrain.run(pretrain.Params(**vars(LOOP), whole_word_scale=0.5), place)
    with pytest.raises(ModelError, match=r"trained on backbone \w{16}; expected backbone \w{16}"):
        load_vip5(place)
    load_backbone_only(place)


def test_a_model_of_other_identifiers_is_rejected(place: Context) -> None:
    rows = [{"item_id": 1, "code": [1], "text": "<item_1>"}]
    write_table(place.table("identifiers"), schema.IDENTIFIERS, from_rows(schema.IDENTIFIERS, rows), MADE)
    with pytest.raises(ModelError, match="trained with identifiers"):
        load_vip5(place)


def test_a_missing_model_is_an_error(place: Context) -> None:
    shutil.rmtree(place.model("train"))
    with pytest.raises(
        ModelError, match=r"no .*train/manifest\.json; expected a trained model; do: run `.venv/bin/dvc repro train`"
    ):
        load_vip5(place)
    (place.model("pretrain") / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no .*model\.safetensors"):
        load_backbone_only(place)


def test_tensors_that_differ_from_the_manifest_are_rejected(place: Context) -> None:
    path = place.model("train") / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["tensors"].remove("visual.no_photo")
    write_manifest(path, manifest)
    with pytest.raises(ModelError, match=r"tensors \['visual\.no_photo'\]"):
        load_vip5(place)


def negated(path: Path) -> None:
    save_file({name: -tensor for name, tensor in load_file(path).items()}, path)


def full_of_nan(path: Path) -> None:
    save_file({name: torch.full_like(tensor, torch.nan) for name, tensor in load_file(path).items()}, path)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def not_utf8(path: Path) -> None:
    path.write_bytes(b"\xff\xfe{")


def another_value(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8").replace("2", "3", 1), encoding="utf-8")


def nested(path: Path) -> None:
    path.write_text("[" * 100_000, encoding="utf-8")


def a_list(path: Path) -> None:
    path.write_text("[1]", encoding="utf-8")


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *[("train/trained.safetensors", damage) for damage in (negated, full_of_nan, cut, emptied, Path.unlink)],
        *[("pretrain/model.safetensors", damage) for damage in (negated, full_of_nan, cut, emptied, Path.unlink)],
        *[("pretrain/config.json", damage) for damage in (cut, emptied, not_utf8, another_value, a_list)],
        *[("pretrain/tokenizer.json", damage) for damage in (cut, emptied, not_utf8, another_value, Path.unlink)],
        *[
            (f"{stage}/manifest.json", damage)
            for stage in ("train", "pretrain")
            for damage in (cut, emptied, not_utf8, another_value, nested, a_list)
        ],
    ],
)
def test_damaged_files_of_a_model_are_named(place: Context, name: str, damage: Callable[[Path], object]) -> None:
    path = place.root / "models" / "tiny" / name
    damage(path)
    with pytest.raises(ModelError, match=rf"{re.escape(path.name)}|trained on backbone") as caught:
        load_vip5(place)
    assert "\n" not in str(caught.value)
    assert f"dvc repro {path.parent.name}" in str(caught.value) or "dvc repro train" in str(caught.value)


def test_another_number_of_visual_tokens_is_rejected(place: Context) -> None:
    with pytest.raises(TableError, match="2 placeholders per photo in the prompts; expected num_visual_tokens = 3"):
        train.run(train.Params(**vars(LOOP)), replace(place, shared=dict(place.shared) | {"num_visual_tokens": 3}))


def test_a_local_t5_is_loaded_and_its_vocabulary_resized(trained: Context, tmp_path: Path) -> None:
    """Keeps the tokenizer's rows, drops surplus ones (such as 28 of T5's 32,128) and adds rows for identifiers."""
    folder = tmp_path / "t5"
    tiny = Scratch(d_model=16, d_ff=32, num_heads=2, d_kv=8, num_layers=1, num_decoder_layers=1)
    t5 = new_t5(tiny, vocabulary_size=40, dropout=0.1)
    t5.save_pretrained(folder)
    for size in (40, 34, 50):
        opened = open_t5(BackboneParams(name=str(folder)), vocabulary_size=size, dropout=0.3, seed=1)
        shared, old = opened.shared.weight, t5.shared.weight
        assert shared.shape == (size, 16)
        assert opened.lm_head.weight is shared
        assert opened.encoder.embed_tokens.weight is shared
        kept = min(size, 40)
        assert torch.equal(shared[:kept], old[:kept])
        assert opened.config.vocab_size == size
        assert opened.encoder.dropout.p == 0.3
    again = open_t5(BackboneParams(name=str(folder)), vocabulary_size=50, dropout=0.3, seed=1)
    assert torch.equal(again.shared.weight, opened.shared.weight)


def test_pretraining_starts_from_a_local_t5_and_tokenizer(trained: Context, tmp_path: Path) -> None:
    place = write_world(tmp_path)
    shared = dict(place.shared) | {"backbone": {"name": str(trained.model("pretrain"))}}
    pretrain.run(pretrain.Params(schedule=Schedule(epochs=0)), replace(place, shared=shared))
    one, tokens = load_backbone_only(place)
    two, same = load_backbone_only(trained)
    assert tokens.size == same.size
    assert torch.equal(one.t5.shared.weight, two.t5.shared.weight)


def test_a_missing_backbone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no config\.json in .*; do: correct backbone\.name"):
        open_t5(BackboneParams(name=str(tmp_path)), vocabulary_size=10, dropout=0.0, seed=1)
    with pytest.raises(InputError, match=r"no tokenizer\.json in .*elsewhere"):
        tokenizer_folder(BackboneParams(scratch=Scratch(), tokenizer=str(tmp_path / "elsewhere")))
    with pytest.raises(ValueError, match="exactly one of name and scratch"):
        BackboneParams(**{k: v for k, v in BACKBONE.items() if k != "scratch"})


def test_new_rows_do_not_depend_on_torchs_generator() -> None:
    tiny = Scratch(d_model=8, d_ff=8, num_heads=1, d_kv=8, num_layers=1, num_decoder_layers=1)
    torch.manual_seed(1)
    one = new_t5(tiny, vocabulary_size=10, dropout=0.0)
    two = new_t5(tiny, vocabulary_size=10, dropout=0.0)
    two.load_state_dict(one.state_dict())
    resize_vocabulary(one, 14, 7)
    torch.manual_seed(99)
    resize_vocabulary(two, 14, 7)
    assert torch.equal(one.shared.weight, two.shared.weight)
