"""The stage `train`, started as its command on a tiny world."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from features.runtime.stage import Context
from features.store.tables import file_digest, input_digest
from modeling import pretrain, train
from modeling.config.model import AdapterParams, VisionParams
from modeling.config.training import Batching, LoopParams, Schedule, Validation
from modeling.data.prompt_dataset import PhotoTable, PromptDataset
from modeling.models.checkpoints import load_backbone_only, load_vip5, open_model
from modeling.models.model_manifest import read_manifest
from modeling.models.vip5 import PHOTO_CONSTANTS
from modeling.training.run_files import prompt_tables
from tests.modeling.world import WIDTH, changed, curve, exit_code, write_world

LOOP = LoopParams(
    schedule=Schedule(epochs=2), batching=Batching(batch_size=16), validation=Validation(examples_per_family=0)
)
FROZEN = train.Params(**vars(LOOP), small_embeddings="frozen")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A world with a backbone and VIP5."""
    made = write_world(tmp_path_factory.mktemp("world"))
    assert exit_code(pretrain, pretrain.Params(**vars(LOOP)), made) == 0
    assert exit_code(train, FROZEN, made) == 0
    return made


@pytest.fixture
def place(trained: Context, tmp_path: Path) -> Context:
    """A copy that a test may spoil."""
    shutil.copytree(trained.root, tmp_path / "copy")
    return replace(trained, root=tmp_path / "copy")


def test_training_changes_exactly_the_trainable_parts(trained: Context) -> None:
    before, _ = load_backbone_only(trained)
    after, tokens = load_vip5(trained)
    fresh, _ = open_model(
        trained,
        adapters=AdapterParams(),
        vision=VisionParams(width=WIDTH, num_visual_tokens=2, standardise=True),
        seed=trained.seed,
    )
    old, start = dict(before.named_parameters()), dict(fresh.named_parameters())
    for name, parameter in after.named_parameters():
        if name in PHOTO_CONSTANTS:
            continue
        if name == "t5.shared.weight":  # only the embeddings of identifiers are trained
            changed_rows = (parameter != old[name]).any(1)
            assert changed_rows.any()
            assert set(changed_rows.nonzero()[:, 0].tolist()) <= set(tokens.identifier_ids.tolist())
            continue
        frozen = name.startswith(("t5.", "whole_word.", "category.")) and not name.endswith("layer_norm.weight")
        assert torch.equal(parameter, start[name]) == frozen, name
        assert not frozen or torch.equal(parameter, old[name])
    photos = PhotoTable.load(trained.table("images/embeddings"))
    corpus = PromptDataset.load(prompt_tables(trained, "test"), tokens, photos)
    assert len(after(corpus.batch([0, 40, 80])).values) == int(corpus.targets.lengths[[0, 40, 80]].sum())


def test_the_checkpoint_has_no_frozen_backbone_tensors(trained: Context) -> None:
    names = set(load_file(trained.model("train") / "trained.safetensors"))
    own = {name for name in names if not name.startswith(("visual.", "adapters."))}
    unnormed = {name for name in own if not name.endswith("layer_norm.weight")}
    assert unnormed <= {*PHOTO_CONSTANTS, "t5.shared.weight"}
    assert names == set(read_manifest(trained, "train")["tensors"])


def test_only_the_rows_of_identifiers_are_stored(trained: Context) -> None:
    model, tokens = load_vip5(trained)
    rows = load_file(trained.model("train") / "trained.safetensors")["t5.shared.weight"]
    assert len(rows) == len(tokens.identifier_ids) < tokens.size
    assert torch.equal(model.t5.shared.weight[torch.from_numpy(tokens.identifier_ids.astype("int64"))], rows)
    metrics = json.loads(trained.metrics("train.json").read_text(encoding="utf-8"))
    stored = sum(t.numel() for t in load_file(trained.model("train") / "trained.safetensors").values())
    constants = sum(dict(model.named_parameters())[name].numel() for name in PHOTO_CONSTANTS)
    assert metrics["num_trained_parameters"] == stored - constants


def test_frozen_new_tokens_stay_as_they_are(place: Context) -> None:
    before, _ = load_backbone_only(place)
    assert exit_code(train, replace(FROZEN, new_tokens="frozen"), place) == 0
    after, _ = load_vip5(place)
    assert torch.equal(after.t5.shared.weight, before.t5.shared.weight)
    assert "t5.shared.weight" not in read_manifest(place, "train")["tensors"]


def test_weight_decay_spares_the_frozen_rows(place: Context) -> None:
    before, tokens = load_backbone_only(place)
    decaying = train.Params(**vars(changed(LOOP, optimizer={"weight_decay": 0.9})), small_embeddings="frozen")
    assert exit_code(train, decaying, place) == 0
    after, _ = load_vip5(place)
    frozen = torch.ones(tokens.size, dtype=torch.bool)
    frozen[torch.from_numpy(tokens.identifier_ids.astype("int64"))] = False
    assert torch.equal(after.t5.shared.weight[frozen], before.t5.shared.weight[frozen])


def test_the_backbone_file_is_unchanged(place: Context) -> None:
    before = file_digest(place.model("pretrain") / "model.safetensors")
    assert exit_code(train, train.Params(**vars(LOOP), tune="full"), place) == 0
    assert file_digest(place.model("pretrain") / "model.safetensors") == before


def test_the_manifest_names_dataset_backbone_tables_and_shape(trained: Context) -> None:
    manifest, backbone = read_manifest(trained, "train"), read_manifest(trained, "pretrain")
    assert (manifest["dataset"], manifest["stage"], manifest["seed"]) == ("tiny", "train", 5)
    assert manifest["backbone_digest"] == backbone["backbone_digest"]
    assert manifest["tables"]["images/embeddings"] == input_digest(trained.table("images/embeddings"))
    assert len(manifest["tables"]) == 7
    assert manifest["vision"]["width"] == WIDTH
    assert manifest["adapters"] == {
        "kind": "bottleneck", "reduction": 8, "lora_scale": 2.0, "init": "near_identity", "routing": "per_family",
        "cross_attention": True,
    }  # fmt: skip


def test_curve_and_metrics_are_written(trained: Context) -> None:
    assert [row["step"] for row in curve(trained, "train")] == ["12"]
    metrics = json.loads(trained.metrics("train.json").read_text(encoding="utf-8"))
    assert (metrics["steps"], metrics["examples"]) == (12, 180)
    assert 0 < metrics["num_trained_parameters"] < metrics["num_parameters"]


def test_a_second_run_writes_the_same_bytes(trained: Context, place: Context) -> None:
    shutil.rmtree(place.model("train"))
    assert exit_code(train, FROZEN, place) == 0
    for name in ("trained.safetensors", "manifest.json"):
        assert (place.model("train") / name).read_bytes() == (trained.model("train") / name).read_bytes()
    assert place.plots("train.csv").read_bytes() == trained.plots("train.csv").read_bytes()


def test_a_photo_changes_predictions(place: Context) -> None:
    train.run(train.Params(**vars(changed(LOOP, optimizer={"learning_rate": 0.01})), tune="full"), place)
    model, tokens = load_vip5(place)
    photos = PhotoTable.load(place.table("images/embeddings"))
    tables = prompt_tables(place, "test")
    seeing, blind = PromptDataset.load(tables, tokens, photos), PromptDataset.load(tables, tokens, photos.withheld())
    with torch.no_grad():
        assert not torch.allclose(model(seeing.batch([0])).values, model(blind.batch([0])).values)


def test_the_backbone_of_another_dataset_is_rejected(place: Context, caplog: pytest.LogCaptureFixture) -> None:
    for folder in ("data", "models"):
        shutil.copytree(place.root / folder / "tiny", place.root / folder / "toys")
    shutil.rmtree(place.root / "models" / "toys" / "train")
    with caplog.at_level(logging.ERROR, logger="vip5"):
        assert exit_code(train, FROZEN, replace(place, dataset="toys")) == 5
    assert "models/toys/pretrain of dataset 'tiny'; expected dataset 'toys'" in caplog.text
    assert not (place.root / "models" / "toys" / "train").exists()
