"""The whole pipeline, run by the commands of its stages on a sample that takes a minute."""

import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from features import schema
from features.runtime.params import load_yaml, merge
from features.store import tables
from flows.pipeline import stage_graph

ROOT = Path(__file__).parents[1]
PIPELINE = load_yaml(ROOT / "dvc.yaml")
LOOP = {"schedule": {"epochs": 1, "max_steps": 12}, "validation": {"examples_per_family": 16}}
SMALL: dict[str, Any] = {
    "sample": {"num_users": 120, "items_per_cell": 2},
    "candidates": {"num_negatives": 30},
    "prompts": {"num_candidates": 31, "max_test_users": 12, "max_valid_users": 12},
    "pretrain": LOOP,
    "train": LOOP,
}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pipeline_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Returns a folder in which every stage of dvc.yaml has run once, in order."""
    folder = tmp_path_factory.mktemp("pipeline")
    (folder / "params.yaml").write_text(yaml.safe_dump(merge(load_yaml(ROOT / "params.yaml"), SMALL)))
    before = Path.cwd()
    os.chdir(folder)
    try:
        codes = {
            name: importlib.import_module(module).main([]) for name, module in stage_graph.modules(PIPELINE).items()
        }
        assert codes == dict.fromkeys(codes, 0)
        yield folder
    finally:
        os.chdir(before)


def outs() -> list[str]:
    entries = (out for stage in PIPELINE["stages"].values() for out in stage["outs"])
    return [(out if isinstance(out, str) else next(iter(out))).replace("${dataset}", "sample") for out in entries]


def read(name: str) -> list[dict[str, Any]]:
    return tables.read_table(Path("data/sample") / name, schema.by_name(name)).to_pylist()


@pytest.mark.parametrize("out", outs())
def test_every_declared_output_is_there(pipeline_run: Path, out: str) -> None:
    assert (pipeline_run / out).exists()


def test_nothing_is_written_beside_the_declared_outputs(pipeline_run: Path) -> None:
    allowed = (*outs(), "work/", "params.yaml")
    files = [path.relative_to(pipeline_run).as_posix() for path in pipeline_run.rglob("*") if path.is_file()]
    assert [path for path in files if not path.startswith(allowed)] == []


@pytest.mark.parametrize("out", [out for out in outs() if out.startswith("data/sample/")])
def test_every_table_has_a_manifest_that_names_no_place(pipeline_run: Path, out: str) -> None:
    manifest = tables.read_manifest(pipeline_run / out)
    assert manifest["rows"] == sum(part["rows"] for part in manifest["parts"].values())
    assert manifest["libraries"].keys() >= {"python", "pyarrow"}
    assert str(pipeline_run) not in json.dumps(manifest)


def test_splits_are_leave_one_out(pipeline_run: Path) -> None:
    rows = read("sequences/interactions")
    users = {row["user_id"] for row in rows}
    last = {row["user_id"]: row for row in rows}
    assert len(users) == len(read("sequences/users"))
    assert {row["split"] for row in last.values()} == {"test"}
    assert sum(row["split"] == "valid" for row in rows) == len(users)


def test_every_item_has_one_feature_one_text_and_one_identifier(pipeline_run: Path) -> None:
    item_ids = [row["item_id"] for row in read("sequences/items")]
    for name in ("images/embeddings", "texts", "identifiers"):
        assert [row["item_id"] for row in read(name)] == item_ids
    texts = [row["text"] for row in read("identifiers")]
    assert len(set(texts)) == len(texts)


def test_training_prompts_have_every_family_and_no_held_out_one(pipeline_run: Path) -> None:
    train = {family: {row["prompt_id"] for row in read(f"prompts/train/{family}")} for family in schema.FAMILIES}
    assert {family: sorted({name[0] for name in names}) for family, names in train.items()} == {
        "sequential": ["A"],
        "direct": ["B"],
        "explanation": ["C"],
    }
    assert not {"A-9", "B-8", "C-12"} & set().union(*train.values())


def test_evaluation_stands_beside_its_baselines(pipeline_run: Path) -> None:
    metrics = json.loads((pipeline_run / "metrics/sample/evaluate.json").read_text())
    assert set(metrics) >= {"sequential", "direct", "explanation", "baselines", "leakage"}
    for prompt in ("A-3", "A-9"):
        scores = metrics["sequential"][prompt]
        assert set(scores) >= {"hr@5", "ndcg@5", "hr@10", "ndcg@10", "mrr@10", "num_users", "ci95"}
        assert scores["num_users"] == 12
        low, high = scores["ci95"]["hr@10"]
        assert 0 <= low <= scores["hr@10"] <= high <= 1
    assert "hr@1" in metrics["direct"]["B-5"]
    assert set(metrics["explanation"]["C-3"]) >= {"bleu4", "rouge1", "rouge2", "rougeL"}
    assert set(metrics["baselines"]["sequential"]) >= {"popularity", "item_knn", "number_rule", "random"}


def test_predictions_are_existing_unseen_items(pipeline_run: Path) -> None:
    seen: dict[int, set[int]] = {}
    for row in read("sequences/interactions"):
        if row["split"] != "test":
            seen.setdefault(row["user_id"], set()).add(row["item_id"])
    items = {row["item_id"] for row in read("sequences/items")}
    rows = [row for row in read("predictions") if row["prompt_id"].startswith("A-")]
    assert rows
    assert {row["item_id"] for row in rows} <= items
    assert [row for row in rows if row["item_id"] in seen[row["user_id"]]] == []


def test_a_second_run_of_the_tables_gives_the_same_bytes(pipeline_run: Path) -> None:
    names = ("records", "sequences", "candidates", "identifiers", "prompts")
    modules = stage_graph.modules(PIPELINE)
    folders = [out for name in names for out in outs() if out.startswith(f"data/sample/{name}")]
    before = {out: (pipeline_run / out / tables.MANIFEST).read_bytes() for out in folders}
    for name in names:
        assert importlib.import_module(modules[name]).main([]) == 0
    assert {out: (pipeline_run / out / tables.MANIFEST).read_bytes() for out in folders} == before


def test_a_model_of_another_dataset_is_refused(pipeline_run: Path, caplog: pytest.LogCaptureFixture) -> None:
    other = load_yaml(pipeline_run / "params.yaml")
    other["datasets"]["other"] = other["datasets"]["sample"]
    (pipeline_run / "other.yaml").write_text(yaml.safe_dump(other | {"dataset": "other"}))
    try:
        for folder in ("data", "models"):
            (pipeline_run / folder / "other").symlink_to(pipeline_run / folder / "sample")
        assert importlib.import_module("modeling.evaluate").main(["--params", "other.yaml"]) == 5
    finally:
        for path in (pipeline_run / "data/other", pipeline_run / "models/other", pipeline_run / "other.yaml"):
            path.unlink(missing_ok=True)
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert "sample" in message
    assert "other" in message
    assert not (pipeline_run / "metrics/other").exists()
