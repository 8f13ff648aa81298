"""The workspace lock admits one run at a time."""

import multiprocessing
import time
from pathlib import Path

import pytest

from features.errors import BusyError
from flows.execution.workspace_lock import workspace_lock


def hold(folder: Path, seconds: float) -> None:
    with workspace_lock("the first", "tiny", folder):
        (folder / "held").touch()
        time.sleep(seconds)


@pytest.mark.parametrize(("wait", "gets_it"), [(0.0, False), (30.0, True)])
def test_the_second_of_two_runs_leaves_or_waits(tmp_path: Path, wait: float, gets_it: bool) -> None:
    process = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path, 1.5))
    process.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.02)
    if gets_it:
        with workspace_lock("the second", "tiny", tmp_path, wait_seconds=wait):
            pass
    else:
        message = r"a retrain in progress \(run the first, name tiny, process \d+, started "
        with pytest.raises(BusyError, match=message), workspace_lock("the second", "tiny", tmp_path, wait_seconds=wait):
            pass
    process.join()
    with workspace_lock("the third", "tiny", tmp_path):
        pass
