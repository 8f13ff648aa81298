"""A person at a shell: types commands as the documentation has them, in a clone, and reads what comes back.

Nothing is imported from the project and nothing is patched: what a journey sees is what a user sees.
"""

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_HIDDEN = ("VIP5_", "PREFECT_", "DVC_", "PYTEST", "COV_", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "MAKE", "MFLAGS")
_PLACEHOLDER = re.compile(r"\b[A-Z][A-Z_]*[A-Z]\b")


@dataclass(frozen=True)
class Said:
    """What a command printed, standard output and standard error as a terminal interleaves them."""

    command: str
    code: int
    text: str
    seconds: float

    @property
    def lines(self) -> list[str]:
        """The lines that are not blank."""
        return [line for line in self.text.splitlines() if line.strip()]


@dataclass
class Running:
    """A command that goes on, such as a server; its lines as they come."""

    child: subprocess.Popen[str]
    command: str
    printed: list[str] = field(default_factory=list)

    def reads(self, pattern: str, *, within: float) -> re.Match[str]:
        """Waits for a line that matches and returns the match; fails with all lines so far."""
        deadline = time.monotonic() + within
        while True:
            for line in tuple(self.printed):
                if found := re.search(pattern, line):
                    return found
            over = self.child.poll() is not None
            if time.monotonic() > deadline or over:
                why = f"ended with {self.child.returncode}" if over else f"{within:g} s have passed"
                raise AssertionError(f"{self.command}: no line like {pattern!r} ({why}):\n" + "".join(self.printed))
            time.sleep(0.1)

    def stops(self, number: int = signal.SIGINT, *, within: float = 30) -> int:
        """Sends a signal to the process, as `kill` does, and returns the exit code."""
        self.child.send_signal(number)
        return self.child.wait(within)

    def presses_ctrl_c(self, *, within: float = 30) -> int:
        """Interrupts the process and everything in its process group, as a terminal does; returns the exit code."""
        os.killpg(self.child.pid, signal.SIGINT)
        return self.child.wait(within)


@dataclass(frozen=True)
class Person:
    """Somebody in a folder, with an environment of a fresh login shell."""

    folder: Path
    home: Path
    more: dict[str, str] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        """The variables of a login shell: none of the test run's own, no virtual environment on PATH."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_HIDDEN)}
        paths = [path for path in kept["PATH"].split(os.pathsep) if not (Path(path).parent / "pyvenv.cfg").is_file()]
        return kept | {"HOME": str(self.home), "PATH": os.pathsep.join(paths)} | self.more

    def types(self, documented: str, *, ends: int | None = 0, within: float = 180, **fills: str) -> Said:
        """Runs one line of the documentation, its placeholders (KEY, FOLDER, NAME) filled in, and waits for its end.

        Args:
            documented: the command as README.md or docs/** has it.
            ends: the exit code that is asserted; None for any.
            within: seconds after which it counts as hanging.
            fills: a value for each placeholder.
        """
        command, started = filled(documented, fills), time.monotonic()
        child = subprocess.Popen(
            ["bash", "-c", command], cwd=self.folder, env=self.environment, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        try:
            text, _ = child.communicate(timeout=within)
        except subprocess.TimeoutExpired as error:
            os.killpg(child.pid, signal.SIGKILL)
            text, _ = child.communicate()
            raise AssertionError(f"{command}: still running after {within:g} s:\n{text[-4000:]}") from error
        said = Said(command, child.returncode, text, time.monotonic() - started)
        assert ends is None or said.code == ends, f"{command}: exit code {said.code}, expected {ends}:\n{text[-6000:]}"
        return said

    @contextmanager
    def starts(self, documented: str, **fills: str) -> Iterator[Running]:
        """Starts one line of the documentation that does not end by itself; whatever it started ends with the block."""
        command = filled(documented, fills)
        child = subprocess.Popen(
            ["bash", "-c", f"exec {command}"], cwd=self.folder, env=self.environment, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
        running = Running(child, command)
        reader = threading.Thread(target=lambda: running.printed.extend(child.stdout or ()), daemon=True)
        reader.start()
        try:
            yield running
        finally:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
                try:
                    child.wait(30)
                except subprocess.TimeoutExpired:
                    os.killpg(child.pid, signal.SIGKILL)
                    child.wait(10)
            reader.join(5)
            if child.stdout is not None and not reader.is_alive():
                child.stdout.close()


def filled(documented: str, fills: dict[str, str]) -> str:
    """`documented` with its placeholders replaced, whole words only.

    Example:
        >>> filled("python -m flows.ingest NAME --from FOLDER", {"NAME": "toys", "FOLDER": "/media/disk"})
        'python -m flows.ingest toys --from /media/disk'
    """
    unknown = fills.keys() - set(_PLACEHOLDER.findall(documented))
    assert not unknown, f"{documented!r} has no placeholder {', '.join(sorted(unknown))}"
    return _PLACEHOLDER.sub(lambda found: fills.get(found[0], found[0]), documented)
