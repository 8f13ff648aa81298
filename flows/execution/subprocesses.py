"""Child processes whose output is streamed line by line and whose process group is stopped with the parent.

Returns exit codes; a workspace that DVC reports as busy raises `BusyError`.

Trade-off: output is read from a pipe, so that commands show no progress bars, which need a terminal.
"""

import contextlib
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import psutil
import tenacity

from features.errors import BusyError, CommandError
from flows.execution.dvc_lock import repair_dvc_lock
from flows.orchestration.prefect_env import SAVED_NO_PROXY, with_loopback

log = logging.getLogger("vip5")
Report = Callable[[str], None]
_BUSY = ("is busy, it is being blocked by", "Unable to acquire lock", "Timeout for acquiring lock")
_GRACE_SECONDS = 20.0
_ATTACHED_SECONDS = 2.0


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child: this Python first on PATH, no telemetry, unbuffered output."""
    # loopback bypasses proxies; other hosts follow the operator's settings
    hosts = os.environ.get(SAVED_NO_PROXY, os.environ.get("no_proxy", os.environ.get("NO_PROXY", "")))
    return os.environ | dict.fromkeys(("NO_PROXY", "no_proxy"), with_loopback(hosts)) | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "DVC_NO_ANALYTICS": "1",
        "PYTHONUNBUFFERED": "1",
    } | dict(more or {})  # fmt: skip


def without_git(root: Path = Path()) -> dict[str, str]:
    """The environment in which DVC does not use Git; replaces the user's global DVC configuration."""
    folder = (root / "work" / "no_git").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    return {"DVC_GLOBAL_CONFIG_DIR": str(folder)}


def stream(command: Sequence[str], root: Path, report: Report, more: Mapping[str, str] | None = None) -> int:
    """Runs `command` in `root`, passes every line of its output to `report` and returns its exit code.

    An exception in this process (an interrupt, a cancelled flow) interrupts the command and its children, then kills
    them after a grace period.
    """
    child = subprocess.Popen(  # noqa: S603 - fixed arguments
        list(command), cwd=root, env=environment(more), text=True, errors="replace", start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        for line in child.stdout or ():
            if line.strip():
                report(line.rstrip())
        return child.wait()
    except BaseException:
        _stop(child)
        raise
    finally:
        if child.stdout is not None:
            child.stdout.close()


def run_attached(command: Sequence[str], root: Path, more: Mapping[str, str] | None = None) -> int:
    """Runs `command` in `root` with the terminal of this process, and returns its exit code.

    An interrupt from the terminal reaches the command too; it gets time to end in order. One that was sent to this
    process alone is passed on.

    Raises:
        KeyboardInterrupt: after the command has ended.
    """
    child = subprocess.Popen(list(command), cwd=root, env=environment(more))  # noqa: S603 - fixed arguments
    try:
        while True:  # with a timeout, because some libraries install signal handlers that do not interrupt a wait
            with contextlib.suppress(subprocess.TimeoutExpired):
                return child.wait(1.0)
    except BaseException:
        _interrupt(child)
        raise


def _interrupt(child: subprocess.Popen[bytes]) -> None:
    """Waits until an interrupted child ends; interrupts it and its children if need be, and kills it in the end."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(_ATTACHED_SECONDS)
        return
    with contextlib.suppress(psutil.NoSuchProcess):
        family = psutil.Process(child.pid)
        for process in [*family.children(recursive=True), family]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGINT)
    try:
        child.wait(_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _stop(child: subprocess.Popen[str]) -> None:
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(child.pid, number)
            child.wait(_GRACE_SECONDS)
        except ProcessLookupError:
            return
        except subprocess.TimeoutExpired:
            continue
        return


def dvc(
    arguments: Sequence[str], root: Path, report: Report, *, more: Mapping[str, str] | None = None, patience: int = 3
) -> None:
    """Runs `dvc ARGUMENTS`; retries with backoff while another DVC process holds the workspace.

    A lock of DVC that a killed run left is repaired first.

    Raises:
        BusyError: the workspace is still busy after `patience` attempts.
        CommandError: DVC failed.
    """
    tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(BusyError), stop=tenacity.stop_after_attempt(patience),
        wait=tenacity.wait_exponential_jitter(2, 60), reraise=True,
    )(_dvc, arguments, root, report, more)  # fmt: skip


def _dvc(arguments: Sequence[str], root: Path, report: Report, more: Mapping[str, str] | None) -> None:
    output: list[str] = []

    def collect(line: str) -> None:
        output.append(line)
        report(line)

    repair_dvc_lock(root, report)
    code = stream([sys.executable, "-m", "dvc", *arguments], root, collect, more)
    if code == 0:
        return
    if any(mark in line for line in output for mark in _BUSY):
        raise BusyError(
            f"a workspace in use by another DVC process ({arguments[0]})", "one at a time", "wait for it, or stop it"
        )
    last = next((line for line in reversed(output) if line.startswith("ERROR")), output[-1] if output else "no output")
    raise CommandError(
        f"dvc {arguments[0]} with exit code {code} ({last[:200]})",
        "exit code 0",
        "fix the cause shown in its output above",
    )
