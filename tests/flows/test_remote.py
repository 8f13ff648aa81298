"""DVC on the tiny pipeline: a remote by one command, another clone, experiments, plots."""

import json
from pathlib import Path

import pytest
import yaml

from features.errors import InputError
from flows import remote
from tests.flows import tiny

pytestmark = pytest.mark.dvc


@pytest.fixture(scope="module")
def first(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace whose pipeline ran, whose lock is committed and whose outputs were pushed."""
    folder = tiny.make(tmp_path_factory.mktemp("dvc") / "first", root)
    tiny.dvc(folder, "repro", "-q")
    tiny.git(folder, "add", "dvc.lock")
    tiny.git(folder, "commit", "-qm", "ran")
    remote.set_remote(str(folder.parent / "store"), folder)
    tiny.dvc(folder, "push", "-q")
    return folder


def test_another_clone_pulls_and_has_nothing_to_compute(first: Path) -> None:
    other = first.parent / "other"
    tiny.git(first.parent, "clone", "-q", str(first), str(other))
    tiny.put_dump(other, "reviews")
    remote.set_remote(str(first.parent / "store"), other)
    tiny.dvc(other, "pull", "-q")
    assert (other / "models/tiny/train/model.txt").read_bytes() == (first / "models/tiny/train/model.txt").read_bytes()
    said = tiny.dvc(other, "repro")
    assert "Data and pipelines are up to date" in said
    assert not (other / "runs.txt").exists()
    assert tiny.git(other, "status", "--porcelain", "--untracked-files=no") == ""


def test_the_remote_stays_on_this_machine(first: Path, tmp_path: Path) -> None:
    assert "store" in (first / ".dvc/config.local").read_text()
    assert "store" not in (first / ".dvc/config").read_text()
    assert tiny.git(first, "status", "--porcelain", ".dvc") == ""
    remote.set_remote(str(first.parent / "store"), first)
    with pytest.raises(InputError, match=r"no \.dvc here"):
        remote.set_remote("store", tmp_path)


@pytest.fixture(scope="module")
def experiments(first: Path) -> Path:
    """The first workspace with a dump that is made: a queued experiment has what Git and DVC know, and no more."""
    folder = first.parent / "experiments"
    tiny.git(first.parent, "clone", "-q", str(first), str(folder))
    (folder / "prepare.py").write_text(
        tiny.PREPARE.replace('pathlib.Path("data/raw/tiny/r.json.gz").read_text()', '"r"')
    )
    graph = yaml.safe_load((folder / "dvc.yaml").read_text())
    graph["stages"]["prepare"]["deps"] = ["prepare.py"]
    (folder / "dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    tiny.git(folder, "commit", "-qam", "a dump that is made")
    tiny.dvc(folder, "repro", "-q")
    tiny.git(folder, "commit", "-qam", "ran")
    return folder


def shown(folder: Path) -> dict[str, float]:
    """NDCG@10 by the name of the experiment, as `dvc exp show` tells it."""
    revisions = json.loads(tiny.dvc(folder, "exp", "show", "--json"))
    found = {}
    for experiment in revisions[1]["experiments"] or []:
        (state,) = experiment["revs"]
        metrics = state["data"]["metrics"]["metrics/tiny/evaluate.json"]["data"]
        found[experiment["name"]] = metrics["sequential"]["A-3"]["ndcg@10"]
    return found


@pytest.mark.slow
def test_experiments_run_at_once_and_from_a_queue_and_are_shown(experiments: Path) -> None:
    tiny.dvc(experiments, "exp", "run", "-q", "-n", "at-once", "-S", "made.quality=0.3")
    tiny.dvc(experiments, "exp", "run", "-q", "--queue", "-n", "queued", "-S", "made.quality=0.4")
    tiny.dvc(experiments, "queue", "start", "-q")
    tiny.dvc(experiments, "queue", "logs", "queued", "-f")
    found = shown(experiments)
    assert (found["at-once"], found["queued"]) == (0.3, 0.4)
    changed = json.loads(tiny.dvc(experiments, "metrics", "diff", "HEAD", "--json"))
    assert changed["metrics/tiny/evaluate.json"]["sequential.A-3.ndcg@10"] == {
        "old": 0.1, "new": 0.3, "diff": pytest.approx(0.2)
    }  # fmt: skip


@pytest.mark.slow
def test_a_grid_is_queued_and_run_whole(experiments: Path) -> None:
    said = tiny.dvc(experiments, "exp", "run", "--queue", "-n", "grid", "-S", "made.quality=0.5,0.6")
    assert said.count("Queued experiment") == 2
    tiny.dvc(experiments, "exp", "run", "--run-all")
    found = {name: value for name, value in shown(experiments).items() if name.startswith("grid-")}
    assert sorted(found.values()) == [0.5, 0.6]
    tiny.dvc(experiments, "exp", "apply", next(name for name in found if found[name] == 0.6))
    assert yaml.safe_load((experiments / "params.yaml").read_text())["made"]["quality"] == 0.6
