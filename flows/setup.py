"""Checks what `make` needs, then brings `.venv` to the versions of requirements.lock: `make setup`.

Enters: requirements.lock, the Python that runs this. Leaves: `.venv`, with the digest of the lock in `.installed`.
It imports the standard library only. Trade-off: the content of the lock tells what is installed, not the times of
files, so that a copied or linked `.venv` is taken as it is; a package that somebody changed by hand is not noticed.
"""

import argparse
import hashlib
import logging
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from flows.installing.preflight import ENVIRONMENT_BYTES, Stop, check

log = logging.getLogger("vip5.setup")
_STAMP = ".installed"
_START = "vip5_start"
PYTHONS = ((3, 11), (3, 12), (3, 13))


def main(argv: Sequence[str] | None = None) -> int:
    """Checks, installs what is missing and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.setup",
        description="Check what the pipeline needs and bring .venv to the versions of requirements.lock (make setup).",
        epilog="It runs under any Python 3.11, 3.12 or 3.13 and needs no package.",
    )
    parser.add_argument("--profiles", metavar="NAME", nargs="*", help="check that these profiles exist")
    parser.add_argument("--outputs", action="store_true", help="check that DVC can keep the outputs of dvc.yaml here")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    root = Path()
    try:
        installed = is_installed(root)
        check(root, profiles=arguments.profiles, outputs=arguments.outputs and in_git(root), installed=installed)
        if not installed:
            install(root)
        write_start(root)
        tell_dvc(root)
    except Stop as stop:
        log.error("setup: %s", stop)
        return 2
    except OSError as error:
        log.error("setup: found %s; expected a folder that can be written; do: mend it and make setup again", error)
        return 2
    except KeyboardInterrupt:
        log.error("setup: interrupted; make setup goes on where it stopped")
        return 130
    return 0


def digest(root: Path) -> str:
    """The digest of requirements.lock, which is what `.venv/.installed` holds after an installation.

    Line ends do not count: Git may have changed them.
    """
    return hashlib.sha256((root / "requirements.lock").read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def is_installed(root: Path) -> bool:
    """Whether `.venv` can start and was made of this requirements.lock."""
    stamp = root / ".venv" / _STAMP
    return stamp.is_file() and stamp.read_text(encoding="utf-8").strip() == digest(root) and _starts(root / ".venv")


def _starts(environment: Path) -> bool:
    """Whether the environment's programs start: where it was moved, they may name a Python that is gone."""
    script = environment / "bin" / "dvc"
    if not script.is_file():
        return False
    with script.open("rb") as opened:
        first = opened.readline().strip()
    begins = first.startswith(b"#!") and os.access(os.fsdecode(first[2:]), os.X_OK)
    return begins and os.access(environment / "bin" / "python", os.X_OK)


def install(root: Path) -> None:
    """Makes `.venv` where it is missing or broken, and installs requirements.lock into it."""
    environment = root / ".venv"
    log.info("setup: installing the packages of requirements.lock into .venv (7 GB; some minutes the first time)")
    make(environment)
    python = str(environment / "bin" / "python")
    if not _runs(environment, "import uv"):
        _run([python, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--disable-pip-version-check", "uv"])
    with tempfile.TemporaryDirectory(prefix=".uv-", dir=environment) as spare:
        words = ["--python", python, "--require-hashes", "--compile-bytecode", "--requirements", "requirements.lock"]
        _run([python, "-m", "uv", "pip", "install", *words], _cache(environment, spare))
    (environment / _STAMP).write_text(digest(root) + "\n", encoding="utf-8")
    log.info("setup: .venv is complete")


def make(environment: Path) -> None:
    """Makes the virtual environment with pip in it, unless there is one that works."""
    whole = _runs(environment, f"import pip, sys; sys.exit(sys.version_info[:2] not in {PYTHONS})")
    if whole and (_starts(environment) or not (environment / "bin" / "dvc").exists()):
        return
    if environment.is_symlink():
        raise Stop(f".venv, a link to {environment.readlink()} that does not work", "an environment", "rm .venv")
    _run([sys.executable, "-m", "venv", "--clear", str(environment)])
    with (environment / "pyvenv.cfg").open("a", encoding="utf-8") as opened:
        opened.write("relocatable = true\n")  # uv then writes programs that find their Python beside themselves


def _runs(environment: Path, code: str) -> bool:
    python = environment / "bin" / "python"
    if not os.access(python, os.X_OK):
        return False
    return subprocess.run([str(python), "-c", code], check=False, stderr=subprocess.DEVNULL).returncode == 0  # noqa: S603


def _cache(environment: Path, spare: str) -> dict[str, str]:
    """Where uv keeps what it downloads: where it always does, or in `spare`, beside the environment.

    The latter where this user may not write there (a container's user without a home folder), or where it is another
    disk, to which uv cannot link, without room.
    """
    own = os.environ.get("UV_CACHE_DIR")
    caches = os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME", "/"), ".cache")
    home = Path(own or Path(caches, "uv")).absolute()
    exists = next(folder for folder in (home, *home.parents) if folder.exists())
    other_disk = exists.stat().st_dev != environment.stat().st_dev
    full = other_disk and shutil.disk_usage(exists).free < ENVIRONMENT_BYTES
    return {"UV_CACHE_DIR": spare} if full or not os.access(exists, os.W_OK) else {}


def _run(command: Sequence[str], more: Mapping[str, str] | None = None) -> None:
    """Runs a command, its output handed on; where that is no terminal, without the list of packages.

    Raises:
        Stop: it ended with an error, which it has told.
    """
    drawn = sys.stderr.isatty()
    with subprocess.Popen(  # noqa: S603 - our own words
        list(command), env={**os.environ, **(more or {})}, text=True, errors="replace",
        stdout=None if drawn else subprocess.PIPE, stderr=None if drawn else subprocess.STDOUT,
    ) as child:  # fmt: skip
        for line in child.stdout or ():
            if not line.startswith((" + ", " - ", " ~ ")):
                log.info("%s", line.rstrip())
    if child.returncode:
        name = " ".join(word for word in command[1:4] if word != "-m")
        raise Stop(
            f"{name} with exit code {child.returncode} (its lines are above)", "0",
            "mend what they say (no package index reachable? a full disk?) and make setup again: it goes on from there",
        )  # fmt: skip


def write_start(root: Path) -> None:
    """Copies `flows/installing/venv_start.py` into `.venv`, and a line of a .pth file that every Python of it runs."""
    source = (root / "flows" / "installing" / "venv_start.py").read_text(encoding="utf-8")
    for packages in (root / ".venv" / "lib").glob("python3.*/site-packages"):
        for name, content in ((f"{_START}.py", source), (f"{_START}.pth", f"import {_START}\n")):
            path = packages / name
            if not path.is_file() or path.read_text(encoding="utf-8") != content:
                temporary = packages / f".{name}.{os.getpid()}"
                temporary.write_text(content, encoding="utf-8")
                temporary.replace(path)


def tell_dvc(root: Path) -> None:
    """Lets DVC work in a folder that no Git keeps (a downloaded archive), and takes it back once one does."""
    path = root / ".dvc" / "config.local"
    told = path.is_file() and "no_scm" in path.read_text(encoding="utf-8")
    if told == in_git(root):
        words = ["--unset", "core.no_scm"] if told else ["core.no_scm", "true"]
        _run([str(root / ".venv/bin/python"), "-m", "dvc", "config", "--local", *words])


def in_git(root: Path) -> bool:
    """Whether a Git repository holds `root`."""
    return any((folder / ".git").exists() for folder in (root.absolute(), *root.absolute().parents))


if __name__ == "__main__":
    sys.exit(main())
