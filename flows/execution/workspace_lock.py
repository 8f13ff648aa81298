"""The locks of a workspace: one retrain, one `flows.serve`, one demo, and one ingest per dump at a time.

A lock is an flock, which the kernel releases when its process is killed. The retrain's lock covers the whole workspace,
because DVC admits only one run there.
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from features.errors import BusyError, InputError


@contextmanager
def workspace_lock(run_id: str, name: str, root: Path = Path(), *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Holds the workspace lock.

    Raises:
        BusyError: another run, which the message names, still holds it after `wait_seconds`.
    """

    def busy(holder: str | None) -> BusyError:
        return BusyError(
            f"a retrain in progress ({holder or 'unknown run'}) after waiting {wait_seconds:g} s", "a free workspace",
            "wait for it to end, or run with --wait SECONDS",
        )  # fmt: skip

    lock = _acquire("retrain", root, busy, wait_seconds)
    started = datetime.now(UTC).isoformat(timespec="seconds")
    with _held(lock, {"run": run_id, "name": name, "process": os.getpid(), "started": started}):
        yield


@contextmanager
def dump_lock(name: str, root: Path = Path(), *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Holds the lock of one dump: of its folder `data/raw/<name>` and of its downloads.

    Raises:
        BusyError: another process, which the message names, still holds it after `wait_seconds`.
    """

    def busy(holder: str | None) -> BusyError:
        return BusyError(
            f"another ingest of {name} in progress ({holder or 'unknown process'})", "one at a time per dump",
            "wait for it to end, then run again",
        )  # fmt: skip

    started = datetime.now(UTC).isoformat(timespec="seconds")
    with _held(_acquire(f"dump-{name}", root, busy, wait_seconds), {"process": os.getpid(), "started": started}):
        yield


@contextmanager
def server_lock(root: Path = Path()) -> Iterator[None]:
    """Holds the lock of `flows.serve` in this folder.

    Raises:
        BusyError: another process, which the message names, holds it.
        InputError: the folder of the locks cannot be written.
    """

    def busy(holder: str | None) -> BusyError:
        return BusyError(
            f"flows.serve at work in this folder already ({holder or 'unknown process'})", "one per folder",
            "name all datasets in one call, or stop the other",
        )  # fmt: skip

    try:
        lock = _acquire("serve", root, busy)
    except OSError as error:
        raise InputError(
            f"{_FOLDER} that cannot be written ({error.strerror})", "a writable folder", "fix its permissions"
        ) from error
    with _held(lock, {"process": os.getpid()}):
        yield


@contextmanager
def demo_lock(root: Path = Path()) -> Iterator[None]:
    """Holds the lock of `flows.demo` in this folder; raises BusyError where another demo is running."""
    error = BusyError("another `make demo` in this folder", "one at a time", "wait for it to end")
    with _held(_acquire("demo", root, lambda _: error), {"process": os.getpid()}):
        yield


_FOLDER = Path("work/locks")


def _acquire(name: str, root: Path, busy: Callable[[str | None], BusyError], wait_seconds: float = 0.0) -> FileLock:
    """Acquires `work/locks/<name>.lock`; raises what `busy` makes of the holder's description, None if unreadable."""
    path = root / _FOLDER / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        lock.acquire(timeout=wait_seconds, poll_interval=0.2)
    except Timeout as error:
        raise busy(_describe(path.with_suffix(".json"))) from error
    return lock


@contextmanager
def _held(lock: FileLock, holder: Mapping[str, Any]) -> Iterator[None]:
    """Describes the holder beside an acquired lock while the block runs, then releases the lock."""
    path = Path(lock.lock_file).with_suffix(".json")
    try:
        path.write_text(json.dumps(holder))
        yield
    finally:
        path.unlink(missing_ok=True)
        lock.release()


def _describe(holder: Path) -> str | None:
    try:
        return ", ".join(f"{key} {value}" for key, value in json.loads(holder.read_text()).items())
    except (OSError, ValueError):
        return None
