"""A dead lock of DVC is told from a living one, repaired, and never stops a later run."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import BusyError
from flows.execution import subprocesses
from flows.execution.dvc_lock import RWLOCK, repair_dvc_lock
from tests.flows import tiny

SLEEP = ["-c", "import time; time.sleep(60)", "repro"]


@pytest.fixture
def living() -> Iterator[subprocess.Popen[bytes]]:
    """A process whose command line ends as that of `dvc repro`."""
    process = subprocess.Popen([sys.executable, *SLEEP])
    yield process
    process.kill()
    process.wait()


def write_lock(root: Path, content: Any) -> Path:
    path = root / RWLOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def entry(pid: int, command: str = "/x y/dvc/__main__.py repro") -> dict[str, Any]:
    return {"pid": pid, "cmd": command}


def ended_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_entries_of_ended_processes_are_removed(tmp_path: Path, living: subprocess.Popen[bytes]) -> None:
    ended = ended_pid()
    path = write_lock(tmp_path, {
        "write": {"a": entry(ended), "b": entry(living.pid)}, "read": {"c": [entry(ended), entry(living.pid)]}
    })  # fmt: skip
    said: list[str] = []
    repair_dvc_lock(tmp_path, said.append)
    assert json.loads(path.read_text()) == {"write": {"b": entry(living.pid)}, "read": {"c": [entry(living.pid)]}}
    assert said == [f"removed entries of ended processes from DVC's lock .dvc/tmp/rwlock: {ended} (repro)"]
    repair_dvc_lock(tmp_path, said.append)
    assert len(said) == 1


def test_a_reused_process_id_is_dead(tmp_path: Path, living: subprocess.Popen[bytes]) -> None:
    said: list[str] = []
    path = write_lock(tmp_path, {"write": {"a": entry(living.pid)}, "read": {}})
    os.utime(path, (time.time() - 3600,) * 2)  # the process began after the entry was written
    repair_dvc_lock(tmp_path, said.append)
    assert json.loads(path.read_text()) == {"write": {}, "read": {}}
    write_lock(tmp_path, {"write": {"a": entry(living.pid, "/x/dvc status")}, "read": {}})
    repair_dvc_lock(tmp_path, said.append)  # the process runs another command
    assert json.loads(path.read_text()) == {"write": {}, "read": {}}
    assert len(said) == 2


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, 60))
def test_a_lock_cut_anywhere_is_removed_or_whole(tmp_path_factory: pytest.TempPathFactory, cut: int) -> None:
    folder = tmp_path_factory.mktemp("cut")
    whole = json.dumps({"write": {"a": entry(os.getpid())}, "read": {}})
    path = write_lock(folder, whole[:cut])
    said: list[str] = []
    repair_dvc_lock(folder, said.append)
    assert not path.exists()
    assert said == ["removed DVC's lock .dvc/tmp/rwlock, which an interrupted run had cut"]


@pytest.mark.parametrize("content", ["[]", "3", '{"write": 3}', '{"write": {"a": {"pid": "x"}}}', "\0\0", "[" * 5000])
def test_a_lock_of_another_form_is_removed(tmp_path: Path, content: str) -> None:
    path = write_lock(tmp_path, content)
    repair_dvc_lock(tmp_path, lambda _line: None)
    assert not path.exists()


@pytest.mark.dvc
def test_dvc_runs_after_the_repair_and_waits_for_the_living(
    root: Path, tmp_path: Path, living: subprocess.Popen[bytes]
) -> None:
    folder = tiny.make(tmp_path / "tiny", root)
    place = str(folder / "data/prepared.txt")
    for content in ("", '{"write": {', {"write": {place: entry(1, "/x/dvc repro")}, "read": {}}):
        write_lock(folder, content)
        said: list[str] = []
        subprocesses.dvc(["repro", "--force"], folder, said.append)
        assert said[0].startswith("removed ")
    write_lock(folder, {"write": {place: entry(living.pid)}, "read": {}})
    with pytest.raises(BusyError, match="a workspace in use by another DVC process"):
        subprocesses.dvc(["repro", "--force"], folder, lambda _line: None, patience=1)
