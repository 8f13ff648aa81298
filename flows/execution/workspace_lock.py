"""The lock that admits one retrain at a time to a workspace.

The lock is an flock, which the kernel releases when a run is killed. One lock covers the whole workspace, because DVC
admits only one run there.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from features.errors import BusyError


@contextmanager
def workspace_lock(run_id: str, name: str, root: Path = Path(), *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Holds the workspace lock.

    Raises:
        BusyError: another run, which the message names, still holds it after `wait_seconds`.
    """
    folder = root / "work" / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / "retrain.json"
    lock = FileLock(folder / "retrain.lock")
    try:
        lock.acquire(timeout=wait_seconds, poll_interval=0.2)
    except Timeout as error:
        raise BusyError(
            f"a retrain in progress ({_describe(holder)}) after waiting {wait_seconds:g} s", "a free workspace",
            "wait for it to end, or run with --wait SECONDS",
        ) from error  # fmt: skip
    try:
        started = datetime.now(UTC).isoformat(timespec="seconds")
        holder.write_text(json.dumps({"run": run_id, "name": name, "process": os.getpid(), "started": started}))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _describe(holder: Path) -> str:
    try:
        return ", ".join(f"{key} {value}" for key, value in json.loads(holder.read_text()).items())
    except (OSError, ValueError):
        return "unknown run"
