"""DVC as people use it, on the tiny line: a remote by one command, another clone, experiments, plots."""

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
    """A workspace whose line ran, whose lock is committed and whose outputs were pushed."""
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


@pytest.mark.slow
def test_experiments_run_at_once_and_from_a_queue_and_are_shown(first: Path) -> None:
    # A queued experiment runs in a folder that has what Git and DVC know: here the dump is made by a stage.
    (first / "prepare.py").write_text(
        tiny.PREPARE.replace('pathlib.Path("data/raw/tiny/r.json.gz").read_text()', '"r"')
    )
    graph = yaml.safe_load((first / "dvc.yaml").read_text())
    graph["stages"]["prepare"]["deps"] = ["prepare.py"]
    (first / "dvc.yaml").write_text(yaml.safe_dump(graph, sort_keys=False))
    tiny.git(first, "commit", "-qam", "a dump that is made")
    tiny.dvc(first, "exp", "run", "-q", "-n", "at-once", "-S", "train.quality=0.3")
    tiny.dvc(first, "exp", "run", "-q", "--queue", "-n", "queued", "-S", "train.quality=0.4")
    tiny.dvc(first, "queue", "start", "-q")
    tiny.dvc(first, "queue", "logs", "queued", "-f")
    shown = json.loads(tiny.dvc(first, "exp", "show", "--json"))
    text = json.dumps(shown)
    for name, value in (("at-once", "0.3"), ("queued", "0.4")):
        assert f'"{name}"' in text
        assert f'"ndcg@10": {value}' in text
    changed = json.loads(tiny.dvc(first, "metrics", "diff", "HEAD", "--json"))
    assert changed["metrics/tiny/evaluate.json"]["sequential.A-3.ndcg@10"]["new"] == 0.3
