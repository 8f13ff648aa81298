"""Repairs DVC's `rwlock`, the file in which DVC notes which processes read or write which paths.

Reads `.dvc/tmp/rwlock`; removes entries of processes that have ended, and the file itself if a kill or a full disk cut
it. Without a repair, DVC fails on a cut file, and on an entry whose process id another program has meanwhile.

Trade-off: an entry holds a process id and a command. Its process is alive if one with that id began before the file was
last written and its command line ends like the command; DVC's own check accepts any process with that id.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
from filelock import FileLock, Timeout

RWLOCK = Path(".dvc/tmp/rwlock")
_GUARD_SECONDS = 5.0
_CLOCK_SECONDS = 2.0
"""Start times are exact to a clock tick, and shift when the clock is set."""
_Entry = Mapping[str, Any]


def repair_dvc_lock(root: Path, report: Callable[[str], None]) -> None:
    """Removes entries of ended processes from the lock of the DVC repository at `root`; reports it in one line."""
    path = root / RWLOCK
    if not path.is_file():
        return
    with _guarded(path) as free:
        if not free:  # a living DVC process is writing the file
            return
        found = _read(path)
        if found is None:
            path.unlink(missing_ok=True)
            report(f"removed DVC's lock {RWLOCK}, which an interrupted run had cut")
            return
        ended = {entry["pid"]: entry["cmd"] for entry in _entries(found) if not _is_alive(entry, path)}
        if not ended:
            return
        path.write_text(json.dumps(_without(found, set(ended))), encoding="utf-8")
    names = ", ".join(f"{number} ({_tail(command)})" for number, command in sorted(ended.items()))
    report(f"removed entries of ended processes from DVC's lock {RWLOCK}: {names}")


@contextmanager
def _guarded(path: Path) -> Iterator[bool]:
    """Holds the lock under which DVC edits the file; yields False if another process keeps it."""
    lock = FileLock(path.with_name(f"{path.name}.lock"))
    try:
        lock.acquire(timeout=_GUARD_SECONDS, poll_interval=0.05)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _read(path: Path) -> dict[str, dict[str, Any]] | None:
    """The content of the file; None if it is not in DVC's format."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        well_formed = set(found) <= {"read", "write"} and all(
            isinstance(entry["pid"], int) and isinstance(entry["cmd"], str) for entry in _entries(found)
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None
    return found if well_formed else None


def _entries(found: Mapping[str, Mapping[str, Any]]) -> list[_Entry]:
    readers = [entry for entries in found.get("read", {}).values() for entry in entries]
    return [*found.get("write", {}).values(), *readers]


def _without(found: Mapping[str, Mapping[str, Any]], ended: set[int]) -> dict[str, dict[str, Any]]:
    write = {place: entry for place, entry in found.get("write", {}).items() if entry["pid"] not in ended}
    read = {
        place: [entry for entry in entries if entry["pid"] not in ended]
        for place, entries in found.get("read", {}).items()
    }
    return {"write": write, "read": {place: entries for place, entries in read.items() if entries}}


def _is_alive(entry: _Entry, path: Path) -> bool:
    try:
        process = psutil.Process(entry["pid"])
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        if process.create_time() > path.stat().st_mtime + _CLOCK_SECONDS:
            return False
        return " ".join(process.cmdline()).endswith(_tail(entry["cmd"]))
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return False
    except psutil.AccessDenied:
        return True


def _tail(command: str) -> str:
    """The last word of a command, printable: the path of the program before it differs from the command line."""
    words = command.split()
    return "".join(c for c in words[-1] if c.isprintable())[:100] if words else ""
