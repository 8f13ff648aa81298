"""A Prefect server of our own: started, watched and ended; and what can be wrong before it is started.

Enters: a port. Leaves: a server on 127.0.0.1 with its database in `.prefect/`, its output in `.prefect/server.log`.
Trade-off: leases of the deployments' limits lie in files, not in the server's memory, as Prefect has it: after a power
cut the slot of the run that died is given back when its lease has expired, not never.
"""

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from filelock import FileLock, Timeout

from features.errors import BusyError, CommandError, InputError, ParamsError
from flows.orchestration.prefect_env import answers

log = logging.getLogger("vip5")
_HOST = "127.0.0.1"
_OWN = {
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}


@dataclass(frozen=True)
class Child:
    """A process of ours; `log_file` is where its output lies, None where it goes to the terminal."""

    what: str
    process: subprocess.Popen[bytes]
    log_file: Path | None = None

    def check(self) -> None:
        """Raises CommandError if it has ended by itself."""
        code = self.process.poll()
        if code is not None:
            raise CommandError(
                f"{self.what} that ended by itself with exit code {code}{self._last_words()}", "one that goes on",
                "mend what its last lines say and start flows.serve again",
            )  # fmt: skip

    def _last_words(self) -> str:
        if self.log_file is None:
            return ""
        lines = [line for line in self.log_file.read_text(errors="replace").splitlines() if line.strip()]
        return f" ({lines[-1].strip()[:200] if lines else 'no word'}; see {self.log_file})"


def start(what: str, words: Sequence[str], env: Mapping[str, str], log_file: Path | None = None) -> Child:
    """Starts `python -m WORDS` out of reach of the terminal's Ctrl-C; it ends when this process is gone.

    One with a log file, the server, does so last: the others have their ends to tell it.
    """
    output: IO[bytes] | None = log_file.open("wb") if log_file else None
    patience = "15" if log_file else "0"
    process = subprocess.Popen(  # noqa: S603 - our own words
        [sys.executable, "-m", "flows.orchestration.guarded", patience, *words],
        stdin=subprocess.PIPE, stdout=output, stderr=output,
        start_new_session=True, env=os.environ | env,
    )  # fmt: skip
    if output is not None:
        output.close()
    return Child(what, process, log_file)


def end(child: Child, seconds: float) -> None:
    """Asks a child to end, and kills it and what it started if it does not in time."""
    pipe = child.process.stdin
    assert pipe is not None  # noqa: S101 - `start` made it
    with suppress(OSError):  # it has ended already
        pipe.write(b".")
        pipe.close()
    try:
        child.process.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.process.pid, signal.SIGKILL)
        child.process.wait()


def start_server(port: int, address: str) -> Child:
    """Starts the server; `wait_for` tells when it answers."""
    env = _OWN | {"PREFECT_SERVER_UI_API_URL": address}  # else the page asks port 4200 whatever the port is
    words = ["prefect", "server", "start", "--host", _HOST, "--port", str(port)]
    return start("the Prefect server", words, env, home() / "server.log")


def wait_for(address: str, patience: float, child: Child | None = None) -> None:
    """Returns when the server answers; tells once that it is waiting for one that somebody else started."""
    deadline, told = time.monotonic() + patience, child is not None
    while not answers(address):
        if child is not None:
            child.check()
        if time.monotonic() > deadline:
            raise BusyError(f"no Prefect server at {address} for {patience:g} s", "an answer", "start it, then this")
        if not told:
            log.warning("serve: waiting for the Prefect server at %s", address)
            told = True
        time.sleep(min(0.5, patience / 10))


def check_port(port: int) -> None:
    """Raises BusyError, which names the port, unless a server could listen on it."""
    if not 0 < port < 65536:
        raise ParamsError(f"--port {port}", "1 to 65535", "give another")
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
                f"choose another with --port{there if answers(address, seconds=0.5) else ''}",
            ) from error  # fmt: skip


def home() -> Path:
    """Where Prefect keeps its database."""
    return Path(os.environ.get("PREFECT_HOME") or ".prefect")


def check_home() -> None:
    """Raises InputError unless the server could write its database."""
    try:
        home().mkdir(parents=True, exist_ok=True)
        probe = home() / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise InputError(
            f"a folder {home()} that cannot be written ({error.strerror})", "room for the database of Prefect's server",
            "mend its rights, or set PREFECT_HOME to another folder",
        ) from error  # fmt: skip


@contextmanager
def only_one_server() -> Iterator[None]:
    """Holds this folder for one `flows.serve`; raises BusyError, which names the process that has it."""
    holder = Path("work/locks/serve.json")
    try:
        holder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(holder.with_suffix(".lock"))
        lock.acquire(timeout=0)
    except Timeout as error:
        raise BusyError(
            f"flows.serve at work in this folder already ({_told(holder)})", "one",
            "name all data sets in one call, or stop the other",
        ) from error  # fmt: skip
    except OSError as error:
        raise InputError(f"{holder.parent} that cannot be written ({error.strerror})", "a place for a lock",
                         "mend its rights") from error  # fmt: skip
    try:
        holder.write_text(json.dumps({"process": os.getpid()}))
        yield
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _told(holder: Path) -> str:
    try:
        return ", ".join(f"{key} {value}" for key, value in json.loads(holder.read_text()).items())
    except (OSError, ValueError):
        return "it has not said which"
