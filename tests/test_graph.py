import ast
import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from features.errors import ParamsError
from features.runtime.params import load_yaml, merge
from flows import graph
from flows.pipeline import params_form, stage_graph

ROOT = Path(__file__).parents[1]
PIPELINE = load_yaml(ROOT / "dvc.yaml")
STAGES = stage_graph.modules(PIPELINE)
DESIGN = [
    "sample", "records", "sequences", "explanations", "candidates", "images", "texts", "identifiers", "prompts",
    "data_report", "pretrain", "train", "evaluate", "model_report",
]  # fmt: skip


def paths(entries: list[Any]) -> list[str]:
    """The paths of a `deps` or `outs` list, whose entries may carry options."""
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def test_the_graph_has_the_stages_in_data_order() -> None:
    assert list(STAGES) == DESIGN


@pytest.mark.parametrize("stage", STAGES)
def test_stage_module_section_and_test_have_one_name(stage: str, root: Path) -> None:
    part, module = STAGES[stage].split(".")
    assert module == stage
    assert PIPELINE["stages"][stage]["cmd"] == f"python -m {part}.{stage}"
    assert stage in load_yaml(root / "params.yaml")
    assert (root / "tests" / part / f"test_{stage}.py").is_file()
    assert PIPELINE["stages"][stage]["desc"]


@pytest.mark.parametrize("stage", STAGES)
def test_deps_params_and_outs_match_the_code(stage: str, root: Path) -> None:
    written = PIPELINE["stages"][stage]
    need = stage_graph.all_needs(PIPELINE, root)[stage]
    assert paths(written["deps"]) == [*need.reads, *need.code]
    assert written["params"] == list(need.params)
    assert paths(written["outs"]) == list(need.writes)


@pytest.mark.parametrize("stage", STAGES)
def test_deps_cover_every_table_and_every_imported_file(stage: str, root: Path) -> None:
    deps = paths(PIPELINE["stages"][stage]["deps"])
    needed = (*importlib.import_module(STAGES[stage]).READS, *stage_graph.code_files(STAGES[stage], root))
    assert [path for path in needed if not any(f"{path}/".startswith(f"{dep}/") for dep in deps)] == []


def test_no_dependency_holds_the_champions() -> None:
    deps = {path for stage in PIPELINE["stages"].values() for path in paths(stage["deps"])}
    assert "models/${dataset}" not in deps


def test_the_file_can_be_read_at_a_glance(root: Path) -> None:
    assert len((root / "dvc.yaml").read_text(encoding="utf-8").splitlines()) < 330


def test_the_file_is_what_the_tool_would_write(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(root)
    assert graph.main(["--check"]) == 0


@pytest.mark.parametrize("stage", STAGES)
def test_what_is_read_is_a_raw_dump_or_what_another_stage_writes(stage: str) -> None:
    written = {path for other in PIPELINE["stages"].values() for path in paths(other["outs"])}
    reads = importlib.import_module(STAGES[stage]).READS
    assert [path for path in reads if path not in written and not path.startswith("data/raw/${dataset}")] == []


def test_metrics_and_curves_are_shown_by_dvc() -> None:
    written = {path for stage in PIPELINE["stages"].values() for path in paths(stage["outs"])}
    assert PIPELINE["metrics"] == ["metrics/${dataset}/summary.json"]
    assert set(PIPELINE["metrics"]) < written
    assert set(PIPELINE["plots"]) == {path for path in written if path.endswith(".svg")}


def test_dvc_gives_params_yaml_back_as_it_is(root: Path) -> None:
    text = (root / "params.yaml").read_text(encoding="utf-8")
    assert params_form.as_dvc_writes(text) == text


def test_an_override_changes_one_line_and_one_section(root: Path, tmp_path: Path) -> None:
    before = (root / "params.yaml").read_text(encoding="utf-8")
    path = tmp_path / "params.yaml"
    for key, value in (("pretrain.schedule.epochs", 3), ("sequences.k_core", 4), ("train.compute.num_threads", 9)):
        path.write_text(before, encoding="utf-8")
        apply_overrides(path, [f"{key}={value}"])
        after = path.read_text(encoding="utf-8")
        assert sum(old != new for old, new in zip(before.splitlines(), after.splitlines(), strict=True)) == 1
        old, new = yaml.safe_load(before), yaml.safe_load(after)
        part = new
        for name in (names := key.split("."))[:-1]:
            part = part[name]
        assert part.pop(names[-1]) == value
        for name in names[:-1]:
            old = old[name]
        old.pop(names[-1])
        assert part == old


def test_two_plus_signs_add_a_parameter_that_is_not_listed(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text((root / "params.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    apply_overrides(path, ["++evaluate.ridge.penalty=5.0", "++sample.num_users=100"])
    expected = merge(
        load_yaml(root / "params.yaml"), {"evaluate": {"ridge": {"penalty": 5.0}}, "sample": {"num_users": 100}}
    )
    assert load_yaml(path) == expected
    assert params_form.as_dvc_writes(path.read_text(encoding="utf-8")) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "found"), [("a: &x {b: 1}\nc: *x\n", "the anchor 'x'"), ("a:\n- 1\n# why\nb: 2\n", "'why'")]
)
def test_what_dvc_would_change_or_drop_is_refused(text: str, found: str) -> None:
    with pytest.raises(ParamsError, match=found):
        params_form.as_dvc_writes(text)


@pytest.mark.parametrize("package", stage_graph.PACKAGES)
def test_packages_themselves_hold_a_docstring_only(package: str, root: Path) -> None:
    body = ast.parse((root / package / "__init__.py").read_text()).body
    assert len(body) == 1
    assert ast.get_docstring(ast.parse((root / package / "__init__.py").read_text()))


def test_code_covers_late_imports_and_data_files_by_name() -> None:
    code = stage_graph.code_files("pipelines.prompts", ROOT)
    assert {"pipelines/beam/runner.py", "features/prompts/prompts.yaml", "features/prompts/templates.py"} <= set(code)
    assert not [path for path in code if path.startswith(("flows/", "modeling/")) or path.endswith("__init__.py")]


def test_filling_keeps_what_is_written_by_hand() -> None:
    before = """\
# The graph.
stages:
  records:
    # why this command
    cmd: python -m pipelines.records
    desc: rows   # one line
    deps:
      - old
    params: [old]
    outs:
      - old
    meta: {owner: us}

  train:
    cmd: python -m modeling.train

metrics: []
"""
    need = stage_graph.Needs(reads=("data/raw/${dataset}",), code=("a.py",), params=("dataset",), writes=("data/x",))
    after = """\
# The graph.
stages:
  records:
    # why this command
    cmd: python -m pipelines.records
    desc: rows   # one line
    meta: {owner: us}
    deps:
      - data/raw/${dataset}
      - a.py
    params: [dataset]
    outs:
      - data/x

  train:
    cmd: python -m modeling.train

metrics: []
"""
    assert stage_graph.fill(before, {"records": need}) == after
    assert stage_graph.fill(after, {"records": need}) == after


CHANGES = """\
import json, logging, pathlib, sys, yaml
from dvc.repo import Repo
logging.disable()
pipeline = yaml.safe_load(pathlib.Path("dvc.yaml").read_text())
def outs():
    for stage in pipeline["stages"].values():
        for out in stage["outs"]:
            out = out if isinstance(out, str) else next(iter(out))
            yield pathlib.Path(out.replace("${dataset}", "sample"))
for path in outs():
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(str(path))
repo = Repo()
repo.commit(force=True)
before = pathlib.Path("params.yaml").read_text()
found = {}
for key in sys.argv[1].split():
    params = yaml.safe_load(before)
    at, *below = key.split(".")
    if below:
        params[at][below[0]]["more"] = 1
    elif isinstance(params.get(at), dict):
        params[at]["more"] = 1
    else:
        params[at] = 1
    pathlib.Path("params.yaml").write_text(yaml.safe_dump(params))
    repo._reset()
    found[key] = sorted(repo.status())
print(json.dumps(found))
"""


@pytest.mark.dvc
def test_a_changed_parameter_marks_only_stages_that_read_it(root: Path, workspace: Path) -> None:
    for package in stage_graph.PACKAGES:
        shutil.copytree(root / package, workspace / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("params.yaml", "dvc.yaml", ".gitignore", ".dvcignore"):
        shutil.copy(root / name, workspace / name)
    for command in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(command, check=True)
    sections = ["nothing", *load_yaml(root / "params.yaml"), "datasets.sample", "datasets.toys"]
    changes = [key for key in sections if key not in {"dataset", "datasets"}]
    done = subprocess.run(
        [sys.executable, "-c", CHANGES, " ".join(changes)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    read = {
        stage: {key.replace(stage_graph.DATASET, "sample") for key in need["params"]}
        for stage, need in PIPELINE["stages"].items()
    }
    expected = {changed: sorted(stage for stage in STAGES if changed in read[stage]) for changed in changes}
    assert found == expected
    assert found["nothing"] == found["datasets.toys"] == found["tokenizers"] == []
    assert found["train"] == ["train"]
    assert found["clip"] == ["images", "texts"]
