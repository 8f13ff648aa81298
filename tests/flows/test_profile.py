import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from features.errors import InputError, ParamsError
from features.runtime import profiles
from features.runtime.params import load_yaml
from features.runtime.stage import Places
from flows.execution.subprocesses import environment
from flows.pipeline import derived_pipeline
from flows.registry import kept_numbers
from flows.registry.provenance import data_digests
from modeling.serving import promoted_model

PIPELINE: dict[str, Any] = {
    "stages": {
        "sample": {"cmd": "python -m pipelines.sample", "params": ["seed"], "outs": ["data/raw/sample"]},
        "records": {
            "cmd": "python -m pipelines.records",
            "desc": "typed rows",
            "deps": ["data/raw/${dataset}", "pipelines/records.py"],
            "params": ["dataset", "records", "datasets.${dataset}"],
            "outs": ["data/${dataset}/records/reviews"],
        },
        "pretrain": {
            "cmd": "python -m modeling.pretrain",
            "deps": ["data/${dataset}/records/reviews"],
            "params": ["dataset", "backbone"],
            "outs": ["models/${dataset}/pretrain"],
        },
    }
}
PARAMS: dict[str, Any] = {
    "dataset": "toys",
    "backbone": {"tokenizer": "data/raw/t5_tokenizer", "name": None},
    "records": {},
}
PUT = """\
import argparse, pathlib, yaml
parser = argparse.ArgumentParser()
parser.add_argument("--params", default="params.yaml")
dataset = yaml.safe_load(pathlib.Path(parser.parse_args().params).read_text())["dataset"]
path = pathlib.Path("data", dataset, "out")
path.parent.mkdir(parents=True, exist_ok=True)
path.write_text(dataset)
"""


def test_a_stage_is_resolved_and_runs_from_the_root(workspace: Path) -> None:
    derived = derived_pipeline.derive(PIPELINE, PARAMS, "work/profiles/toys/params.yaml")
    assert list(derived["stages"]) == ["records", "pretrain"]
    assert derived["stages"]["records"] == {
        "wdir": "../../..",
        "cmd": "python -m pipelines.records --params work/profiles/toys/params.yaml",
        "desc": "typed rows",
        "deps": ["data/raw/toys", "pipelines/records.py"],
        "params": [{"work/profiles/toys/params.yaml": ["dataset", "records", "datasets.toys"]}],
        "outs": ["data/toys/records/reviews"],
    }


def test_the_sample_is_made_only_for_itself(workspace: Path) -> None:
    derived = derived_pipeline.derive(PIPELINE, PARAMS | {"dataset": "sample"}, "work/profiles/sample/params.yaml")
    assert list(derived["stages"]) == ["sample", "records", "pretrain"]


def test_a_path_among_the_parameters_is_an_input_of_who_reads_it(workspace: Path) -> None:
    (workspace / "data/raw/t5_tokenizer").mkdir(parents=True)
    derived = derived_pipeline.derive(PIPELINE, PARAMS, "work/profiles/toys/params.yaml")
    assert derived["stages"]["pretrain"]["deps"] == ["data/toys/records/reviews", "data/raw/t5_tokenizer"]
    assert derived["stages"]["records"]["deps"] == ["data/raw/toys", "pipelines/records.py"]


@pytest.fixture
def copy(root: Path, workspace: Path) -> Path:
    """The repository's parameters and graph in an empty folder."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(root / name, workspace / name)
    shutil.copytree(root / "profiles", workspace / "profiles")
    return workspace


def put_dump(name: str, files: list[str], root: Path) -> None:
    folder = root / "data/raw" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        (folder / file).write_text("x")
    manifest = [{"name": file, "bytes": 1, "sha256": "0" * 64} for file in files]
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_an_unknown_profile_is_answered_with_the_nearest(copy: Path) -> None:
    with pytest.raises(ParamsError) as caught:
        profiles.merged(["toy"])
    assert caught.value.found == "profile 'toy'"
    assert caught.value.expected == "toys (the nearest known)"


def test_a_profile_extends_one_other(copy: Path) -> None:
    (copy / "profiles/shared.yaml").write_text("seed: 3\nprompts: {max_history: 7, rounds: 2}\n")
    (copy / "profiles/own.yaml").write_text("extends: shared\nprompts: {max_history: 9}\n")
    params = profiles.merged(["own"])
    assert (params["seed"], params["prompts"]["max_history"], params["prompts"]["rounds"]) == (3, 9, 2)
    (copy / "profiles/chain.yaml").write_text("extends: own\n")
    with pytest.raises(ParamsError, match="one level of `extends`"):
        profiles.merged(["chain"])
    (copy / "profiles/lost.yaml").write_text("extends: share\n")
    with pytest.raises(ParamsError, match="expected shared"):
        profiles.merged(["lost"])


def test_profiles_are_laid_over_in_order(copy: Path) -> None:
    (copy / "profiles/quick.yaml").write_text("seed: 3\n")
    merged = profiles.merged(["toys", "quick"])
    assert (merged["dataset"], merged["seed"]) == ("toys", 3)


def test_a_profile_without_a_dataset_of_its_own_is_refused(copy: Path) -> None:
    with pytest.raises(ParamsError, match=r"dataset sample, which is that of params\.yaml; expected another dataset"):
        derived_pipeline.write_pipeline(["paper"])
    assert not (copy / "work").exists()


def test_a_missing_dump_fails_before_dvc_starts(copy: Path) -> None:
    with pytest.raises(InputError) as caught:
        derived_pipeline.write_pipeline(["toys"])
    assert str(caught.value) == (
        "found no dump in data/raw/toys; expected sequential_data.txt, datamaps.json, items.jsonl.gz; "
        "do: .venv/bin/python -m flows.ingest toys --from FOLDER"
    )
    assert not (copy / "work").exists()


def test_a_missing_tokenizer_fails_before_dvc_starts(copy: Path) -> None:
    put_dump("gift_cards", ["Gift_Cards_5.json.gz", "meta_Gift_Cards.json.gz"], copy)
    with pytest.raises(
        InputError, match=r"data/raw/t5_tokenizer; .* do: \.venv/bin/python -m flows\.ingest t5_tokenizer --from"
    ):
        derived_pipeline.write_pipeline(["gift_cards"])


def test_an_invalid_stage_parameter_fails_before_dvc_starts(copy: Path) -> None:
    (copy / "profiles/wrong.yaml").write_text("dataset: toys\ntrain: {tune: all}\n")
    with pytest.raises(ParamsError, match=r"found train\.tune = 'all'"):
        derived_pipeline.write_pipeline(["wrong"])


@pytest.mark.parametrize("name", ["gift_cards", "toys", "beauty"])
def test_tracked_files_are_only_read(copy: Path, name: str) -> None:
    before = {path: (copy / path).read_bytes() for path in ("params.yaml", "dvc.yaml")}
    entry = load_yaml(Path("params.yaml"))["datasets"][name]
    put_dump(name, [*entry["reviews"], *entry["metadata"]], copy)
    put_dump("t5_tokenizer", ["tokenizer.json", "spiece.model"], copy)
    pipeline = derived_pipeline.write_pipeline([name])
    assert {path: (copy / path).read_bytes() for path in before} == before
    assert pipeline.as_posix() == f"work/profiles/{name}/dvc.yaml"
    stages = load_yaml(pipeline)["stages"]
    assert list(stages) == [stage for stage in load_yaml(Path("dvc.yaml"))["stages"] if stage != "sample"]
    assert ("data/raw/t5_tokenizer" in stages["pretrain"]["deps"]) == (name == "gift_cards")
    assert "${dataset}" not in pipeline.read_text()


def test_an_unchanged_champion_keeps_its_own_overrides(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put_dump("toys", ["r.json.gz"], copy)
    params = {"dataset": "toys", "sequences": {"previous_items": None}, "identifiers": {}}
    code = copy / "pipelines/sequences.py"
    code.parent.mkdir()
    code.write_text("x = 1")
    md5 = hashlib.md5(code.read_bytes(), usedforsecurity=False).hexdigest()
    lock = {"stages": {"sequences": {"deps": [{"path": "pipelines/sequences.py", "md5": md5}]}}}
    (copy / "work/profiles/toys").mkdir(parents=True)
    (copy / "work/profiles/toys/dvc.lock").write_text(yaml.safe_dump(lock))
    folder = Path("models/toys/champions/0123")
    (folder / "data/toys/sequences/items").mkdir(parents=True)
    about = {"params": params, "data": data_digests(Places(dataset="toys"), ()), "numbers_kept_from": {}}
    champion = promoted_model.Champion(name="toys", digest="0123", folder=folder, about=about)
    monkeypatch.setattr(promoted_model, "current", lambda *_: champion)
    monkeypatch.setattr(kept_numbers, "comparable", lambda *_: True)
    kept = {"sequences": {"previous_items": f"{folder}/data/toys/sequences/items"}}
    assert kept_numbers.kept_ids(params) == {}
    assert kept_numbers.kept_ids(params | {"sequences": {"previous_items": None, "k_core": 3}}) == kept
    code.write_text("x = 2")
    assert kept_numbers.kept_ids(params) == kept
    code.write_text("x = 1")
    put_dump("toys", ["more.json.gz"], copy)
    assert kept_numbers.kept_ids(params) == kept
    assert kept_numbers.kept_ids(params | {"retrain": {"keep_ids": False}}) == {}


@pytest.mark.dvc
@pytest.mark.slow
def test_a_profile_run_leaves_the_root_pipeline_unchanged(root: Path, workspace: Path) -> None:
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, check=True, cwd=workspace)
    for name in (".gitignore", ".dvcignore"):
        shutil.copy(root / name, workspace / name)
    shutil.copy(root / ".dvc/config", workspace / ".dvc/config")
    (workspace / "put.py").write_text(PUT)
    (workspace / "params.yaml").write_text("dataset: sample\n")
    stage = {"cmd": "python -m put", "deps": ["put.py"], "params": ["dataset"], "outs": ["data/${dataset}/out"]}
    pipeline = {"stages": {"put": stage}}
    (workspace / "dvc.yaml").write_text(yaml.safe_dump(pipeline))
    assert derived_pipeline.reproduce(Path("dvc.yaml"), dry=False) == 0
    lock = (workspace / "dvc.lock").read_bytes()
    home = workspace / "work/profiles/toys"
    home.mkdir(parents=True)
    (home / "params.yaml").write_text("dataset: toys\n")
    derived = derived_pipeline.derive(pipeline, {"dataset": "toys"}, "work/profiles/toys/params.yaml")
    (home / "dvc.yaml").write_text(yaml.safe_dump(derived))
    derived_pipeline.write_settings()
    assert derived_pipeline.reproduce(Path("work/profiles/toys/dvc.yaml"), dry=False) == 0
    assert (workspace / "data/toys/out").read_text() == "toys"
    assert (home / "dvc.lock").is_file()
    assert (workspace / "dvc.lock").read_bytes() == lock
    assert (workspace / "data/sample/out").read_text() == "sample"
    for words in (["checkout"], ["gc", "--workspace", "--force"]):
        subprocess.run([sys.executable, "-m", "dvc", *words, "-q"], check=True, cwd=workspace, env=environment())
    assert (workspace / "data/toys/out").read_text() == "toys"
    done = [sys.executable, "-m", "dvc", "status", "work/profiles/toys/dvc.yaml"]
    said = subprocess.run(
        done, check=True, env=environment(derived_pipeline.settings()), capture_output=True, text=True
    )
    assert "up to date" in said.stdout
