"""Another environment that holds only what a Beam worker needs, and the two servers of the portable path.

The wheel of this project is built and unpacked into a fresh environment, beside links to the distributions that its
extra `worker` asks for, with all that they ask for, and to no other.
"""

import os
import subprocess
import sys
import time
import venv
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from email.parser import Parser
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name


def build_wheel(root: Path, folder: Path) -> Path:
    """The wheel of the project at `root`."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=root, check=True, capture_output=True)
    [wheel] = folder.glob("*.whl")
    return wheel


def worker_requirements(wheel: Path) -> list[Requirement]:
    """Requirements of the extra `worker`, from the wheel's metadata."""
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        metadata = Parser().parsestr(archive.read(name).decode())
    asked = [Requirement(line) for line in metadata.get_all("Requires-Dist") or []]
    return [entry for entry in asked if entry.marker and 'extra == "worker"' in str(entry.marker)]


def closure(requirements: list[Requirement]) -> set[str]:
    """The names of the installed distributions that `requirements` need, directly or indirectly."""
    names: set[str] = set()
    waiting = [entry.name for entry in requirements]
    while waiting:
        name = canonicalize_name(waiting.pop())
        if name in names:
            continue
        names.add(name)
        asked = [Requirement(line) for line in distribution(name).requires or []]
        waiting += [entry.name for entry in asked if entry.marker is None or entry.marker.evaluate({"extra": ""})]
    return names


def make_environment(folder: Path, wheel: Path) -> Path:
    """A fresh environment with the wheel and the closure of its extra `worker`; returns its Python."""
    venv.create(folder, with_pip=False, symlinks=True)
    [packages] = (folder / "lib").glob("python3*/site-packages")
    for name in closure(worker_requirements(wheel)):
        found = distribution(name)
        tops = {Path(file.parts[0]) for file in found.files or [] if file.parts[0] not in {"..", "__pycache__"}}
        for top in tops:
            link = packages / top
            if not link.exists():
                link.symlink_to(Path(str(found.locate_file(top))).resolve())
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(packages)
    return folder / "bin" / "python"


@contextmanager
def serving(python: Path, *arguments: str, cwd: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a server with `python` first on PATH and without this process's paths; stops it at the end."""
    cwd.mkdir(parents=True, exist_ok=True)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    environment["PATH"] = f"{python.parent}{os.pathsep}{environment['PATH']}"
    with (cwd / "log.txt").open("wb") as log:
        process = subprocess.Popen([python, *arguments], cwd=cwd, env=environment, stdout=log, stderr=log)
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def port_in(path: Path, seconds: float = 60) -> int:
    """The port that a server writes into a file once it listens."""
    deadline = time.monotonic() + seconds
    while not path.is_file():
        assert time.monotonic() < deadline, f"no server wrote {path}"
        time.sleep(0.05)
    return int(path.read_text())
