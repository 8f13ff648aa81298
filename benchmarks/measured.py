"""What a command costs with all the processes it starts: seconds, CPU-seconds and memory.

Enters: a command. Leaves: its cost. Linux only: memory is summed over the process tree every 0.2 seconds.
Trade-off: resident memory counts a page once in every process that maps it, so the sum errs upwards.
"""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one command took."""

    seconds: float
    cpu_seconds: float
    """User and system, of all its processes."""
    peak_gb: float
    """Resident memory of the tree at its greatest, in 2**30 bytes."""


def measure(command: Sequence[str], cwd: Path, log: Path) -> Cost:
    """Runs the command with its output in `log` and gives its cost.

    Raises:
        RuntimeError: it failed.
    """
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    started = time.monotonic()
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=cwd, stdout=stream, stderr=subprocess.STDOUT, env=environment)
        done, peaks = threading.Event(), [0]
        watcher = threading.Thread(target=_watch, args=(process.pid, peaks, done))
        watcher.start()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        done.set()
        watcher.join()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {log.read_text()[-2000:]}")
    peak = max(peaks[0], usage.ru_maxrss * 1024)
    cpu = usage.ru_utime + usage.ru_stime
    return Cost(seconds=time.monotonic() - started, cpu_seconds=cpu, peak_gb=peak / 2**30)


def python(*arguments: str) -> list[str]:
    """A command that runs this Python."""
    return [sys.executable, *arguments]


def _watch(root: int, peaks: list[int], done: threading.Event) -> None:
    while not done.wait(0.2):
        peaks[0] = max(peaks[0], _resident(root))


def _resident(root: int) -> int:
    """Bytes that a process and its descendants hold in memory."""
    parents, resident = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                after_name = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:  # it ended meanwhile
                continue
            parents[int(entry.name)], resident[int(entry.name)] = int(after_name[1]), int(after_name[21])
    family, grew = {root}, True
    while grew:
        more = {pid for pid, parent in parents.items() if parent in family} - family
        family, grew = family | more, bool(more)
    return sum(resident.get(pid, 0) for pid in family) * _PAGE_BYTES
