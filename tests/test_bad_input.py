"""Wrong input gives one line (found, expected, do), a nonzero exit code, and no output files."""

import importlib
import logging
from pathlib import Path
from typing import Any

import pytest
import yaml

from features import schema
from features.runtime.params import load_yaml
from features.store import tables
from flows.pipeline import stage_graph
from flows.pipeline.sections import with_defaults

ROOT = Path(__file__).parents[1]
STAGES = stage_graph.modules(load_yaml(ROOT / "dvc.yaml"))
READERS = [stage for stage in STAGES if stage != "sample"]


def run_wrong(stage: str, params: dict[str, Any], caplog: pytest.LogCaptureFixture) -> tuple[int, str]:
    """Runs a stage that must fail without writing; returns its exit code and its one error line."""
    Path("params.yaml").write_text(yaml.safe_dump(params))
    before = {path: path.stat().st_mtime_ns for path in sorted(Path().rglob("*")) if path.is_file()}
    with caplog.at_level(logging.ERROR, logger="vip5"):
        code = importlib.import_module(STAGES[stage]).main([])
    after = {path: path.stat().st_mtime_ns for path in sorted(Path().rglob("*")) if path.is_file()}
    assert after == before
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert errors[0].startswith(f"{stage}: found ")
    assert "; expected " in errors[0]
    assert "; do: " in errors[0]
    assert "\n" not in errors[0]
    return int(code), errors[0]


@pytest.fixture
def params(workspace: Path) -> dict[str, Any]:
    return with_defaults(load_yaml(ROOT / "params.yaml"))


@pytest.mark.parametrize("dataset", ["sample", "toys"])
def test_missing_dump(params: dict[str, Any], caplog: pytest.LogCaptureFixture, dataset: str) -> None:
    code, line = run_wrong("records", params | {"dataset": dataset}, caplog)
    assert code == 3
    assert f"data/raw/{dataset}" in line


@pytest.mark.parametrize("stage", READERS)
def test_missing_inputs_are_named_by_every_stage(
    params: dict[str, Any], caplog: pytest.LogCaptureFixture, stage: str
) -> None:  # fmt: skip
    code, line = run_wrong(stage, params, caplog)
    assert code in {3, 4, 5}
    assert any(folder in line for folder in ("data/raw/sample", "data/sample/", "models/sample/", "metrics/sample/"))


def test_unknown_dataset(params: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    code, line = run_wrong("records", params | {"dataset": "toy"}, caplog)
    assert (code, line.split("; do: ")[0]) == (2, "records: found dataset 'toy'; expected toys (the nearest known)")


def test_unknown_format(params: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    params["datasets"]["sample"]["format"] = "amazon2015"
    code, line = run_wrong("records", params, caplog)
    assert code == 2
    assert line.startswith("records: found datasets.sample.format = 'amazon2015'; expected amazon20")


@pytest.mark.parametrize("stage", STAGES)
def test_unknown_parameter_is_answered_with_the_nearest(
    params: dict[str, Any], caplog: pytest.LogCaptureFixture, stage: str
) -> None:  # fmt: skip
    key = next(iter(params[stage]))
    code, line = run_wrong(stage, params | {stage: {**params[stage], f"{key}s": 1}}, caplog)
    assert code == 2
    assert line.startswith(f"{stage}: found parameter {stage}.{key}s; expected {key}")


@pytest.mark.parametrize("stage", STAGES)
def test_ill_typed_parameter_is_named_with_its_type(
    params: dict[str, Any], caplog: pytest.LogCaptureFixture, stage: str
) -> None:  # fmt: skip
    key = next(iter(params[stage]))
    wrong: Any = {"a": {"deep": 1}} if not isinstance(params[stage][key], dict) else [1]
    code, line = run_wrong(stage, params | {stage: {**params[stage], key: wrong}}, caplog)
    assert code == 2
    assert line.startswith(f"{stage}: found {stage}.{key} = ")


def test_a_section_that_is_not_there(params: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    del params["records"]
    assert run_wrong("records", params, caplog)[0] == 2


def put_items(num_items: int) -> None:
    rows = [
        {
            "item_id": i + 1, "item_key": f"B{i}", "title": None, "brand": None, "category": None,
            "num_interactions": 5, "num_train": 3,
        }
        for i in range(num_items)
    ]  # fmt: skip
    tables.write_table(
        Path("data/sample/sequences/items"), schema.CATALOGUE, tables.from_rows(schema.CATALOGUE, rows),
        tables.Provenance(stage="sequences", params={}),
    )  # fmt: skip


def test_photo_folder_that_is_not_there(params: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    put_items(3)
    Path("data/raw/sample").mkdir(parents=True)
    code, line = run_wrong("images", params, caplog)
    assert code == 3
    assert "data/raw/sample/photos" in line


def test_half_written_table(params: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    put_items(3)
    (Path("data/sample/sequences/items") / tables.MANIFEST).unlink()
    code, line = run_wrong("texts", params, caplog)
    assert code == 4
    assert "a half-written table at data/sample/sequences/items" in line
