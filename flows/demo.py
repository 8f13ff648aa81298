"""`python -m flows.demo` (`make demo`): runs the pipeline of `params.yaml` and prints its results.

Writes the outputs of the stages, DVC's run cache and `work/demo/dvc.lock`, and prints a table.

Trade-off: metrics differ in their last digits between processors, so that a `dvc.lock` in Git would be valid on one
machine only. This command keeps its lock in `work/`, and `git status` stays clean. A `dvc.lock` created by `dvc repro`
is used and updated in place. See docs/decisions/0028-the-lock-of-the-demo.md.
"""

import argparse
import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from features.errors import InputError, VIP5Error
from features.runtime.exit_codes import exit_code_of
from features.runtime.stage import configure_logging
from flows.execution.dvc_lock import repair_dvc_lock
from flows.execution.subprocesses import run_attached, without_git
from flows.execution.workspace_lock import demo_lock
from flows.installing.preflight import in_git
from modeling import summary

log = logging.getLogger("vip5")
_LOCK = Path("dvc.lock")
_HOME = Path("work/demo")
_LAST = "model_report"
_BEFORE_IT = ("data_report", "evaluate")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the pipeline, prints its results and returns DVC's exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.demo", description="Run the pipeline of params.yaml and print its results (make demo)."
    )
    parser.parse_args(argv)
    configure_logging()
    try:
        if not Path(".dvc").is_dir():
            raise InputError(f"no .dvc in {Path.cwd().name}", "the repository root", "change folder")
        with borrowed_lock() as borrowed:
            code = reproduce(borrowed=borrowed)
        return code or summary.main([])
    except VIP5Error as error:
        log.error("demo: %s", error)
        return error.exit_code


def reproduce(*, borrowed: bool, root: Path = Path()) -> int:
    """Runs `dvc repro` and returns DVC's exit code.

    With a borrowed lock the last stage is not committed to the cache: `dvc checkout` without a lock would delete all
    outputs, but refuses to do so while one of them could not be restored.
    """
    if not borrowed:
        return _dvc(["repro"], root, {})
    code = _dvc(["repro", *_BEFORE_IT], root, without_git(root))
    return code or _dvc(["repro", "--single-item", "--no-commit", _LAST], root, without_git(root))


def _dvc(arguments: Sequence[str], root: Path, settings: Mapping[str, str]) -> int:
    command = [sys.executable, "-m", "dvc", *arguments]
    repair_dvc_lock(root, lambda line: log.warning("demo: %s", line))
    return run_attached(command, root, settings)


@contextmanager
def borrowed_lock(root: Path = Path()) -> Iterator[bool]:
    """Moves the demo's `dvc.lock` to the root while the block runs; yields whether it did.

    An existing `dvc.lock` that the demo did not create is kept; a marker file distinguishes the two after a kill.
    Outside of Git there is no status to keep clean, and the lock stays in the root.

    Raises:
        BusyError: another demo is running in this folder.
    """
    lock, saved, mark = root / _LOCK, root / _HOME / _LOCK, root / _HOME / "running"
    saved.parent.mkdir(parents=True, exist_ok=True)
    with demo_lock(root):
        foreign = lock.is_file() and not mark.is_file()
        if foreign or not in_git(root):
            yield False
            return
        mark.touch()
        if saved.is_file() and not lock.is_file():
            saved.rename(lock)
        try:
            yield True
        finally:
            if lock.is_file():
                lock.replace(saved)
            mark.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(exit_code_of("demo", main))
