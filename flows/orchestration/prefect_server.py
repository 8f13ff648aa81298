"""Starts, monitors and stops a local Prefect server, and checks its preconditions.

The server listens on 127.0.0.1, with its database in `.prefect/` and its output in `.prefect/server.log`.

Trade-off: concurrency leases are stored in files instead of the server's memory, Prefect's default, so that the slot of
a run that died in a power failure is released when its lease expires.
"""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from features.errors import BusyError, CommandError, InputError, ParamsError
from flows.orchestration.prefect_env import is_server_up, server_state

log = logging.getLogger("vip5")
_HOST = "127.0.0.1"
_OWN = {
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}


@dataclass(frozen=True)
class Child:
    """A child process; `log_file` holds its output, or is None if the output goes to the terminal."""

    what: str
    process: subprocess.Popen[bytes]
    log_file: Path | None = None

    def check(self) -> None:
        """Raises CommandError if the process has ended by itself."""
        code = self.process.poll()
        if code is not None:
            raise CommandError(
                f"{self.what} that ended by itself with exit code {code}{self._last_line()}", "a running process",
                "fix the cause shown in its last lines and start flows.serve again",
            )  # fmt: skip

    def _last_line(self) -> str:
        if self.log_file is None:
            return ""
        lines = [line for line in self.log_file.read_text(errors="replace").splitlines() if line.strip()]
        return f" ({lines[-1].strip()[:200] if lines else 'no output'}; see {self.log_file})"


def start(what: str, arguments: Sequence[str], env: Mapping[str, str], log_file: Path | None = None) -> Child:
    """Starts `python -m ARGUMENTS` in its own session, which Ctrl-C does not reach; it ends when this process ends.

    A process with a log file, the server, outlives the others by 8 seconds, because they report their end to it.
    """
    output: IO[bytes] | None = log_file.open("wb") if log_file else None
    patience = "8" if log_file else "0"
    process = subprocess.Popen(  # noqa: S603 - fixed arguments
        [sys.executable, "-m", "flows.orchestration.guarded", patience, *arguments],
        stdin=subprocess.PIPE, stdout=output, stderr=output,
        start_new_session=True, env=os.environ | env,
    )  # fmt: skip
    if output is not None:
        output.close()
    return Child(what, process, log_file)


def end(child: Child, seconds: float) -> None:
    """Asks a child to end; kills it and its children after `seconds`."""
    pipe = child.process.stdin
    assert pipe is not None  # noqa: S101 - `start` made it
    with suppress(OSError):  # the process has already ended
        pipe.write(b".")
        pipe.close()
    try:
        child.process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()


def start_server(port: int, address: str) -> Child:
    """Starts the server; `wait_for` waits until it answers."""
    env = _OWN | {"PREFECT_SERVER_UI_API_URL": address}  # the page would otherwise call port 4200
    arguments = ["prefect", "server", "start", "--host", _HOST, "--port", str(port)]
    return start("the Prefect server", arguments, env, home() / "server.log")


def wait_for(address: str, patience: float, child: Child | None = None) -> None:
    """Waits up to `patience` seconds until the server answers; logs once that it waits for an external server.

    Raises:
        BusyError: no server answers, or one that is not Prefect's.
        CommandError: `child`, the server, has ended by itself.
    """
    deadline, logged = time.monotonic() + patience, child is not None
    while (state := server_state(address)) != "up":
        if child is not None:
            child.check()
        if state == "foreign":
            raise BusyError(
                f"a server at {address} that is not Prefect's", "Prefect's API or no server",
                "choose another port with --port, or correct PREFECT_API_URL",
            )  # fmt: skip
        if time.monotonic() > deadline:
            raise BusyError(
                f"no Prefect server at {address} for {patience:g} s", "a running server",
                "start the server, then flows.serve",
            )  # fmt: skip
        if not logged:
            log.warning("serve: waiting for the Prefect server at %s", address)
            logged = True
        time.sleep(min(0.5, patience / 10))


def check_port(port: int) -> None:
    """Raises BusyError if a server cannot listen on the port."""
    if not 0 < port < 65536:
        raise ParamsError(f"--port {port}", "1 to 65535", "choose another port")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
            probe.listen(1)
        except OSError as error:
            address = f"http://{_HOST}:{port}/api"
            there = f", or use the Prefect server that is there: PREFECT_API_URL={address}"
            raise BusyError(
                f"port {port} that cannot be listened on ({error.strerror})", "a free port",
                f"choose another with --port{there if is_server_up(address, seconds=0.5) else ''}",
            ) from error  # fmt: skip


def home() -> Path:
    """The folder of Prefect's database."""
    return Path(os.environ.get("PREFECT_HOME") or ".prefect")


def check_home() -> None:
    """Raises InputError if the server cannot write its database."""
    try:
        home().mkdir(parents=True, exist_ok=True)
        probe = home() / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"a folder {home()} that cannot be written ({error.strerror})", "a writable folder for Prefect's database",
            "fix its permissions, or set PREFECT_HOME to another folder",
        ) from error  # fmt: skip
