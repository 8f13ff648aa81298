"""The stage `pretrain`, started as its command on a tiny world."""

import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from features.runtime.stage import Context
from features.store.tables import file_digest, input_digest
from modeling import pretrain
from modeling.config.training import Batching, LoopParams, Objective, Optimizer, Schedule, Validation
from modeling.models.checkpoints import load_backbone_only
from modeling.models.model_manifest import read_manifest
from tests.modeling.world import NUM_ITEMS, NUM_USERS, curve, exit_code, write_world

LOOP = LoopParams(
    schedule=Schedule(epochs=8),
    batching=Batching(batch_size=16),
    optimizer=Optimizer(learning_rate=0.02),
    objective=Objective(dropout=0.0),
    validation=Validation(every_steps=20, checkpoint_metric="hr@10"),
)
PARAMS = pretrain.Params(**vars(LOOP))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A world with a trained backbone."""
    made = write_world(tmp_path_factory.mktemp("world"))
    assert exit_code(pretrain, PARAMS, made) == 0
    return made


def test_it_learns_the_order_of_items(place: Context) -> None:
    rows = curve(place, "pretrain")
    assert float(rows[-1]["loss"]) < 0.6 * float(rows[0]["loss"])
    assert set(rows[0]) >= {
        "step", "epoch", "loss", "loss_sequential", "loss_direct", "loss_explanation", "learning_rate",
    }  # fmt: skip
    metrics = json.loads(place.metrics("pretrain.json").read_text(encoding="utf-8"))
    assert metrics["steps"] == 48  # 90 rows in batches of 16, 8 times
    assert metrics["examples"] == 720
    assert metrics["stopped"] == "finished"
    assert metrics["best"]["valid_hr@10"] == 1.0


def test_the_manifest_has_dataset_tables_and_parameters(place: Context) -> None:
    manifest = read_manifest(place, "pretrain")
    folder = place.model("pretrain")
    assert (manifest["dataset"], manifest["stage"], manifest["seed"]) == ("tiny", "pretrain", 5)
    assert manifest["backbone_digest"] == file_digest(folder / "model.safetensors")[:16]
    assert manifest["identifiers_digest"] == input_digest(place.table("identifiers"))
    assert set(manifest["tables"]) == {
        f"prompts/{split}/{family}"
        for split in ("train", "valid")
        for family in ("sequential", "direct", "explanation")
    } | {"prompts/train/language"}
    assert manifest["params"]["schedule"]["epochs"] == 8
    assert manifest["tokens"] == {"max_source_tokens": 256, "max_target_tokens": 16, "truncate": "never"}
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json", "manifest.json", "model.safetensors", "tokenizer.json",
    ]  # fmt: skip


def test_the_backbone_has_no_photo_tokens(place: Context) -> None:
    names = set(load_file(place.model("pretrain") / "model.safetensors"))
    assert {"whole_word.weight", "category.weight", "shared.weight"} <= names
    assert not [name for name in names if name.startswith(("visual", "adapters"))]


def test_a_second_run_writes_the_same_bytes(place: Context, tmp_path: Path) -> None:
    again = write_world(tmp_path)
    assert exit_code(pretrain, PARAMS, again) == 0
    for name in ("model.safetensors", "tokenizer.json", "config.json", "manifest.json"):
        assert (again.model("pretrain") / name).read_bytes() == (place.model("pretrain") / name).read_bytes()
    assert again.plots("pretrain.csv").read_bytes() == place.plots("pretrain.csv").read_bytes()


def test_zero_epochs_keep_the_backbone(tmp_path: Path) -> None:
    place = write_world(tmp_path)
    assert pretrain.run(pretrain.Params(schedule=Schedule(epochs=0)), place) == 0
    assert curve(place, "pretrain") == []
    assert len(load_backbone_only(place)[1].identifier_ids) == NUM_ITEMS


def test_missing_prompts_leave_no_model(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = write_world(tmp_path)
    shutil.rmtree(place.table("prompts/train/direct"))
    with caplog.at_level(logging.ERROR, logger="vip5"):
        assert exit_code(pretrain, PARAMS, place) == 4
    assert caplog.messages[0].startswith("pretrain: found no table at data/tiny/prompts/train/direct; expected ")
    assert not place.model("pretrain").exists()


def test_all_four_families_are_trained_by_default(tmp_path: Path) -> None:
    place = write_world(tmp_path, with_language=True)
    assert pretrain.run(pretrain.Params(schedule=Schedule(epochs=1)), place) == 3 * NUM_USERS + 2 * NUM_ITEMS


def test_language_alone_teaches_its_sentences(tmp_path: Path) -> None:
    place = write_world(tmp_path, with_language=True)
    batching, validation = Batching(batch_size=8), Validation(every_steps=50)
    params = pretrain.Params(
        families=("language",), schedule=Schedule(epochs=40), batching=batching, validation=validation,
        optimizer=Optimizer(learning_rate=0.02), objective=Objective(dropout=0.0),
    )  # fmt: skip
    assert pretrain.run(params, place) == 40 * 2 * NUM_ITEMS
    rows = curve(place, "pretrain")
    assert float(rows[-1]["loss_explanation"]) < 0.5 * float(rows[0]["loss_explanation"])
    assert {row["loss_sequential"] for row in rows} == {""}
    assert {row["valid_loss"] for row in rows} == {""}


def test_the_tokenizer_reads_rows_that_are_not_trained(tmp_path: Path) -> None:
    params = pretrain.Params(families=("direct",), schedule=Schedule(epochs=1), validation=Validation(every_steps=1))
    place = write_world(tmp_path, with_language=True)
    assert pretrain.run(params, place) == NUM_USERS
    assert {row["valid_loss_sequential"] for row in curve(place, "pretrain")} == {""}
    tokens = load_backbone_only(place)[1]
    assert tokens.unk_id not in tokens.encode_targets(["Small Lamp"], 64)[0]


def test_families_without_rows_are_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = write_world(tmp_path)
    with caplog.at_level(logging.ERROR, logger="vip5"):
        assert exit_code(pretrain, pretrain.Params(families=("language",)), place) == 6
    assert "no train prompts of pretrain.families ('language',)" in caplog.text


def test_hr_at_10_needs_next_item_rows() -> None:
    with pytest.raises(ValueError, match="hr@10 needs the family sequential"):
        pretrain.Params(families=("language",), validation=Validation(checkpoint_metric="hr@10"))
    with pytest.raises(ValueError, match="families must be distinct"):
        pretrain.Params(families=())


def test_a_missing_dataset_is_rejected(place: Context, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, logger="vip5"):
        assert exit_code(pretrain, PARAMS, replace(place, dataset="toys")) == 4
    assert "found no table at data/toys/" in caplog.text


def test_a_negative_scale_is_rejected() -> None:
    with pytest.raises(ValueError, match="whole_word_scale must be at least 0"):
        pretrain.Params(whole_word_scale=-1.0)
