"""The lock of the demo: borrowed, returned and never lost."""

from pathlib import Path

import pytest

from features.errors import BusyError
from flows import demo


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
