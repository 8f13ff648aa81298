"""Checks the preconditions of `make` and installs requirements.lock into `.venv`: `make setup`.

Reads requirements.lock; writes `.venv`, with the digest of the lock in `.installed`. Imports the standard library only.

Trade-off: the digest of the lock, not file times, decides whether packages are installed, so that a copied or linked
`.venv` is reused. Manually changed packages are not detected.
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

from flows.installing.preflight import ENVIRONMENT_BYTES, Stop, check, in_git

log = logging.getLogger("vip5.setup")
_STAMP = ".installed"
_START = "vip5_start"
PYTHONS = ((3, 11), (3, 12), (3, 13))


def main(argv: Sequence[str] | None = None) -> int:
    """Checks the preconditions, installs missing packages and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.setup",
        description="Check preconditions and install the versions of requirements.lock into .venv (make setup).",
        epilog="Runs on Python 3.11, 3.12 and 3.13 without any package.",
    )
    parser.add_argument("--profiles", metavar="NAME", nargs="*", help="check that these profiles exist")
    parser.add_argument("--outputs", action="store_true", help="check that DVC can track the outputs of dvc.yaml here")
    arguments = parser.parse_args(argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    root = Path()
    try:
        installed = is_installed(root)
        check(root, profiles=arguments.profiles, outputs=arguments.outputs and in_git(root), installed=installed)
        if not installed:
            install(root)
        write_start(root)
        configure_dvc(root)
    except Stop as stop:
        log.error("setup: %s", stop)
        return 2
    except OSError as error:
        log.error("setup: found %s; expected a writable folder; do: fix the cause and run make setup again", error)
        return 2
    except KeyboardInterrupt:
        log.error("setup: interrupted; make setup continues where it stopped")
        return 130
    return 0


def digest(root: Path) -> str:
    """The digest of requirements.lock, which `.venv/.installed` holds after an installation.

    Line endings are normalised, because Git may change them.
    """
    return hashlib.sha256((root / "requirements.lock").read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def is_installed(root: Path) -> bool:
    """Whether `.venv` works and was installed from this requirements.lock."""
    stamp = root / ".venv" / _STAMP
    return stamp.is_file() and stamp.read_text(encoding="utf-8").strip() == digest(root) and _starts(root / ".venv")


def _starts(environment: Path) -> bool:
    """Whether the environment's scripts start; in a moved environment they may name a missing Python."""
    script = environment / "bin" / "dvc"
    if not script.is_file():
        return False
    with script.open("rb") as opened:
        first = opened.readline().strip()
    begins = first.startswith(b"#!") and os.access(os.fsdecode(first[2:]), os.X_OK)
    return begins and os.access(environment / "bin" / "python", os.X_OK)


def install(root: Path) -> None:
    """Creates `.venv` if it is missing or broken, and installs requirements.lock into it."""
    environment = root / ".venv"
    log.info("setup: installing the packages of requirements.lock into .venv (7 GB; some minutes the first time)")
    make(environment)
    python = str(environment / "bin" / "python")
    if not _runs(environment, "import uv"):
        _run([python, "-m", "pip", "install", "--quiet", "--no-cache-dir", "--disable-pip-version-check", "uv"])
    with tempfile.TemporaryDirectory(prefix=".uv-", dir=environment) as spare:
        options = ["--python", python, "--require-hashes", "--compile-bytecode", "--requirements", "requirements.lock"]
        _run([python, "-m", "uv", "pip", "install", *options], _cache(environment, spare))
    (environment / _STAMP).write_text(digest(root) + "\n", encoding="utf-8")
    log.info("setup: .venv is complete")


def make(environment: Path) -> None:
    """Creates the virtual environment with pip, unless a working one exists."""
    whole = _runs(environment, f"import pip, sys; sys.exit(sys.version_info[:2] not in {PYTHONS})")
    if whole and (_starts(environment) or not (environment / "bin" / "dvc").exists()):
        return
    if environment.is_symlink():
        raise Stop(f".venv, a link to {environment.readlink()} that does not work", "an environment", "rm .venv")
    _run([sys.executable, "-m", "venv", "--clear", str(environment)])
    with (environment / "pyvenv.cfg").open("a", encoding="utf-8") as opened:
        opened.write("relocatable = true\n")  # uv then writes scripts that find their Python by a relative path


def _runs(environment: Path, code: str) -> bool:
    python = environment / "bin" / "python"
    if not os.access(python, os.X_OK):
        return False
    return subprocess.run([str(python), "-c", code], check=False, stderr=subprocess.DEVNULL).returncode == 0  # noqa: S603


def _cache(environment: Path, spare: str) -> dict[str, str]:
    """The cache folder of uv: its default, or `spare` beside the environment.

    `spare` is used if the default is not writable (a container user without a home folder), or if it is on another
    disk, to which uv cannot link, that is too full.
    """
    own = os.environ.get("UV_CACHE_DIR")
    caches = os.environ.get("XDG_CACHE_HOME") or Path(os.environ.get("HOME", "/"), ".cache")
    home = Path(own or Path(caches, "uv")).absolute()
    exists = next(folder for folder in (home, *home.parents) if folder.exists())
    other_disk = exists.stat().st_dev != environment.stat().st_dev
    full = other_disk and shutil.disk_usage(exists).free < ENVIRONMENT_BYTES
    return {"UV_CACHE_DIR": spare} if full or not os.access(exists, os.W_OK) else {}


def _run(command: Sequence[str], more: Mapping[str, str] | None = None) -> None:
    """Runs a command and passes its output on, without the list of packages if the output is no terminal.

    Raises:
        Stop: the command failed; its output shows the error.
    """
    drawn = sys.stderr.isatty()
    with subprocess.Popen(  # noqa: S603 - fixed arguments
        list(command), env={**os.environ, **(more or {})}, text=True, errors="replace",
        stdout=None if drawn else subprocess.PIPE, stderr=None if drawn else subprocess.STDOUT,
    ) as child:  # fmt: skip
        for line in child.stdout or ():
            if not line.startswith((" + ", " - ", " ~ ")):
                log.info("%s", line.rstrip())
    if child.returncode:
        name = " ".join(word for word in command[1:4] if word != "-m")
        raise Stop(
            f"{name} with exit code {child.returncode} (see its output above)", "exit code 0",
            "fix the cause (no package index reachable? a full disk?) and run make setup again, which continues",
        )  # fmt: skip


def write_start(root: Path) -> None:
    """Copies `flows/installing/venv_start.py` into `.venv` with a .pth file that every Python of it runs."""
    source = (root / "flows" / "installing" / "venv_start.py").read_text(encoding="utf-8")
    for packages in (root / ".venv" / "lib").glob("python3.*/site-packages"):
        for name, content in ((f"{_START}.py", source), (f"{_START}.pth", f"import {_START}\n")):
            path = packages / name
            if not path.is_file() or path.read_text(encoding="utf-8") != content:
                temporary = packages / f".{name}.{os.getpid()}"
                temporary.write_text(content, encoding="utf-8")
                temporary.replace(path)


def configure_dvc(root: Path) -> None:
    """Sets DVC's `core.no_scm` in a folder outside of Git (a downloaded archive), and unsets it in a Git clone."""
    path = root / ".dvc" / "config.local"
    no_scm = path.is_file() and "no_scm" in path.read_text(encoding="utf-8")
    if no_scm == in_git(root):
        options = ["--unset", "core.no_scm"] if no_scm else ["core.no_scm", "true"]
        _run([str(root / ".venv/bin/python"), "-m", "dvc", "config", "--local", *options])


if __name__ == "__main__":
    sys.exit(main())
