"""A retrain that is killed at any step, or at any change of a file, leaves a complete champion."""

import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flows.execution.workspace_lock import workspace_lock
from flows.retraining import steps
from modeling.serving import promoted_model as promoted_models
from tests.flows.tiny import STEPS, quality, retrain, run_in, without_dvc

pytestmark = pytest.mark.dvc


def kill_in(folder: Path, at: str, when: str) -> None:
    """In a child: retrains and kills itself, without any clean-up, before or after step `at`."""

    def step(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        if name == at and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        found = function(*arguments)
        if name == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    with workspace_lock("killed", "tiny", folder):
        steps.retrain(run_in(folder, "killed"), step)


def child(function: Callable[..., None], *arguments: Any, start: str = "fork") -> int:
    """Exit code of `function` in a process of its own; "forkserver" forks one that no other test has run in."""
    process = multiprocessing.get_context(start).Process(target=function, args=arguments)  # type: ignore[attr-defined]
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


def test_a_kill_at_any_step_leaves_a_complete_champion(
    ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in ["reproduce", *STEPS]:  # the first time with the real DVC
        folder = Path(shutil.copytree(ready, tmp_path / at))
        assert child(kill_in, folder, at, "after") == -signal.SIGKILL
        assert quality(folder) == (0.2 if at in {"promote", "report"} else 0.1), at
        assert retrain(folder, "again").decision == ("unchanged" if at in {"promote", "report"} else "promote")
        assert quality(folder) == 0.2
        without_dvc(monkeypatch)
        shutil.rmtree(folder)


def kill_at_change(folder: Path, number: int) -> None:
    """In a child: seals and promotes, and kills itself at the `number`-th change of the file system."""
    changes = iter(range(1, number + 1))

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        changing = writes or event in {"os.rename", "os.mkdir", "os.chmod", "os.remove", "os.rmdir"}
        if changing and str(folder) in str(arguments[0]) and next(changes) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    run = run_in(folder, "killed")
    verdict = steps.gate(run, promoted_models.current("tiny", folder))
    sys.addaudithook(audit)
    steps.promote(run, steps.seal(run), verdict)


@pytest.mark.slow
def test_a_kill_at_any_file_change_leaves_a_complete_champion(ready: Path, tmp_path: Path) -> None:
    multiprocessing.get_context("forkserver").set_forkserver_preload(["tests.flows.retraining.test_kills"])
    seen = []
    for number in range(1, 100):
        folder = Path(shutil.copytree(ready, tmp_path / str(number)))
        code = child(kill_at_change, folder, number, start="forkserver")
        seen.append(quality(folder))
        if code == 0:
            break
        run = run_in(folder)
        verdict = steps.gate(run, promoted_models.current("tiny", folder))
        steps.promote(run, steps.seal(run), verdict)
        assert quality(folder) == 0.2
    assert code == 0
    assert len(seen) > 10
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.1, 0.2)
