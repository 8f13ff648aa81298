"""One retrain at a time in one workspace.

Enters: how long to wait. Leaves: nothing; the lock is the system's (flock), so a run that is killed gives it back.
Trade-off: one lock for the whole workspace, because DVC itself admits only one run there.
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
def only_one(run_id: str, name: str, root: Path = Path(), *, wait_seconds: float = 0.0) -> Iterator[None]:
    """Holds the workspace; raises BusyError, which names the run that has it, if it is not free in time."""
    folder = root / "work" / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    holder = folder / "retrain.json"
    lock = FileLock(folder / "retrain.lock")
    try:
        lock.acquire(timeout=wait_seconds, poll_interval=0.2)
    except Timeout as error:
        raise BusyError(
            f"a retrain under way ({_told(holder)}) after {wait_seconds:g} s of waiting", "a free workspace",
            "let it end, or run with --wait SECONDS",
        ) from error  # fmt: skip
    try:
        started = datetime.now(UTC).isoformat(timespec="seconds")
        holder.write_text(json.dumps({"run": run_id, "name": name, "process": os.getpid(), "started": started}))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _told(holder: Path) -> str:
    try:
        return ", ".join(f"{key} {value}" for key, value in json.loads(holder.read_text()).items())
    except (OSError, ValueError):
        return "it has not said which"
