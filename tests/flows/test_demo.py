"""The lock of the demo, and the environment of DVC without Git and without a user name."""

import getpass
from pathlib import Path

import pytest

from features.errors import BusyError
from flows import demo
from flows.execution import subprocesses


@pytest.fixture(autouse=True)
def clone(workspace: Path) -> Path:
    """An empty folder that Git knows."""
    (workspace / ".git").mkdir()
    return workspace


LOCK, KEPT, MARK = Path("dvc.lock"), Path("work/demo/dvc.lock"), Path("work/demo/running")


def test_the_demo_takes_its_lock_away_and_brings_it_back(workspace: Path) -> None:
    with demo.borrowed_lock() as borrowed:
        assert borrowed
        LOCK.write_text("first")
    assert not LOCK.exists()
    with demo.borrowed_lock():
        assert LOCK.read_text() == "first"
        LOCK.write_text("second")
    assert KEPT.read_text() == "second"
    assert not MARK.exists()


def test_a_lock_of_the_users_own_stays_where_it_is(workspace: Path) -> None:
    LOCK.write_text("own")
    with demo.borrowed_lock() as borrowed:
        assert not borrowed
    assert LOCK.read_text() == "own"
    assert not KEPT.exists()


def test_without_git_the_lock_stays(workspace: Path) -> None:
    (workspace / ".git").rmdir()
    with demo.borrowed_lock() as borrowed:
        assert not borrowed
        LOCK.write_text("first")
    assert (LOCK.read_text(), KEPT.exists()) == ("first", False)


def test_what_a_killed_demo_left_is_taken_away_by_the_next(workspace: Path) -> None:
    KEPT.parent.mkdir(parents=True)
    MARK.touch()
    LOCK.write_text("half")
    with demo.borrowed_lock() as borrowed:
        assert borrowed
        assert LOCK.read_text() == "half"
    assert (LOCK.exists(), KEPT.read_text()) == (False, "half")


def interrupted() -> None:
    with demo.borrowed_lock():
        LOCK.write_text("half")
        raise KeyboardInterrupt


def test_an_interrupted_demo_keeps_its_progress(workspace: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (LOCK.exists(), KEPT.read_text()) == (False, "half")


def test_two_demos_do_not_run_at_once(workspace: Path) -> None:
    with demo.borrowed_lock(), pytest.raises(BusyError, match="another `make demo`"):
        demo.borrowed_lock().__enter__()


def test_git_is_asked_only_where_there_is_one(workspace: Path) -> None:
    (workspace / ".git").rmdir()
    (workspace / "clone" / ".git").mkdir(parents=True)
    assert subprocesses.dvc_settings(workspace / "clone") == {}
    (folder,) = subprocesses.dvc_settings(workspace).values()
    assert "no_scm = true" in (Path(folder) / "config").read_text()


def test_a_user_id_without_a_name_gets_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert subprocesses.environment()["LOGNAME"].startswith("user-")
