"""Commands of our own run as children: every line handed on as it comes, the whole group stopped when we are.

Enters: a command line. Leaves: its exit code; DVC's "busy" as `BusyError`.
Trade-off: output is read line by line from a pipe, so progress bars (which need a terminal) fall away.
"""

import getpass
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import tenacity

from features.errors import BusyError, CommandError
from flows.orchestration.prefect_env import KEPT, with_loopback

log = logging.getLogger("vip5")
Tell = Callable[[str], None]
_BUSY = ("is busy, it is being blocked by", "Unable to acquire lock", "Timeout for acquiring lock")
_GRACE_SECONDS = 20.0


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of a child: this Python first on PATH, a user name, no telemetry, no buffering."""
    # loopback never goes through a proxy; other addresses do as the operator wants
    hosts = os.environ.get(KEPT, os.environ.get("no_proxy", os.environ.get("NO_PROXY", "")))
    return os.environ | _user_name() | dict.fromkeys(("NO_PROXY", "no_proxy"), with_loopback(hosts)) | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
        "DVC_NO_ANALYTICS": "1",
        "PYTHONUNBUFFERED": "1",
    } | dict(more or {})  # fmt: skip


def _user_name() -> dict[str, str]:
    """A name where the user id has none (`docker run --user 1234`): DVC asks for one and ends with a traceback."""
    try:
        getpass.getuser()
    except (KeyError, OSError):
        return {"LOGNAME": f"user-{os.getuid()}"}
    return {}


def without_git(root: Path = Path()) -> dict[str, str]:
    """The environment in which DVC asks nothing of Git, in place of the user's global DVC configuration."""
    folder = (root / "work" / "no_git").absolute()
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config").write_text("[core]\n    no_scm = true\n", encoding="utf-8")
    return {"DVC_GLOBAL_CONFIG_DIR": str(folder)}


def dvc_settings(root: Path = Path()) -> dict[str, str]:
    """What DVC needs in the environment where the root is no Git clone, such as an unpacked archive; nothing in one."""
    return {} if in_git(root) else without_git(root)


def in_git(root: Path = Path()) -> bool:
    """Whether the root lies in a Git clone."""
    here = root.absolute()
    return any((folder / ".git").exists() for folder in (here, *here.parents))


def stream(command: Sequence[str], root: Path, tell: Tell, more: Mapping[str, str] | None = None) -> int:
    """Runs `command` in `root`, tells every line of its output and returns its exit code.

    Whatever ends us (an interrupt, a cancelled flow) interrupts the command and what it started, then kills it.
    """
    child = subprocess.Popen(  # noqa: S603 - our own words
        list(command), cwd=root, env=environment(more), text=True, errors="replace", start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    try:
        for line in child.stdout or ():
            if line.strip():
                tell(line.rstrip())
        return child.wait()
    except BaseException:
        _stop(child)
        raise
    finally:
        if child.stdout is not None:
            child.stdout.close()


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
    words: Sequence[str], root: Path, tell: Tell, *, more: Mapping[str, str] | None = None, patience: int = 3
) -> None:
    """Runs `dvc WORDS`; waits and tries again while another DVC holds the workspace.

    Raises:
        BusyError: it still does after `patience` tries.
        CommandError: DVC ended with an error.
    """
    tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(BusyError), stop=tenacity.stop_after_attempt(patience),
        wait=tenacity.wait_exponential_jitter(2, 60), reraise=True,
    )(_dvc, words, root, tell, more)  # fmt: skip


def _dvc(words: Sequence[str], root: Path, tell: Tell, more: Mapping[str, str] | None) -> None:
    said: list[str] = []

    def listen(line: str) -> None:
        said.append(line)
        tell(line)

    code = stream([sys.executable, "-m", "dvc", *words], root, listen, dvc_settings(root) | dict(more or {}))
    if code == 0:
        return
    if any(mark in line for line in said for mark in _BUSY):
        raise BusyError(
            f"a workspace in use by another DVC ({words[0]})", "one DVC at a time", "wait for it, or stop it"
        )
    last = next((line for line in reversed(said) if line.startswith("ERROR")), said[-1] if said else "no word")
    raise CommandError(f"dvc {words[0]} with exit code {code} ({last[:200]})", "0", "mend what its lines above say")
