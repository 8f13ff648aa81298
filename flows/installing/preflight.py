"""Checks the preconditions of `make` before any work is done.

Raises a `Stop` with a one-line message. It runs before anything is installed and imports the standard library only.
"""

import difflib
import importlib.util
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from features.runtime.names import is_name, safe_name
from features.runtime.profile_names import profile_names

ENVIRONMENT_BYTES = 7_500_000_000  # .venv with its bytecode, measured: 6.9 GB
OUTPUT_BYTES = 200_000_000  # what `make demo` writes (16 MB), with room to spare
OUTPUTS = ("data", "models", "metrics", "reports", "plots", "work")


class Stop(Exception):  # noqa: N818 - a request to the user, shown without a traceback
    """A precondition that the user has to fix first."""

    def __init__(self, found: str, expected: str, action: str) -> None:
        super().__init__(f"found {found}; expected {expected}; do: {action}")


def check(root: Path, *, profiles: Sequence[str] | None, outputs: bool, installed: bool) -> None:
    """Raises the first `Stop` that applies.

    Args:
        root: the folder that holds the Makefile.
        profiles: the names given to `make run`, or None for every other target.
        outputs: whether DVC will track outputs here in a Git repository. Without Git, output folders may be links.
        installed: whether `.venv` is complete, so that nothing has to be installed.
    """
    if profiles is not None:
        check_profiles(profiles, root)
    check_folder(root)
    if outputs:
        check_links(root)
    check_rights(root)
    if not installed:
        check_modules()
    check_disk(root, ENVIRONMENT_BYTES if not installed else OUTPUT_BYTES)


def check_profiles(names: Sequence[str], root: Path) -> None:
    """Raises `Stop`, with the nearest names, if a profile does not exist."""
    known = profile_names(root)
    if not names:
        raise Stop("no profile", f"one of: {', '.join(known)}", f"make run PROFILE={known[0] if known else 'NAME'}")
    for name in names:
        if not is_name(name):
            raise Stop(
                f"profile name {name!r}", "letters, digits, _ and -, the first no -",
                f"name it {safe_name(name, 'profile')}: profiles/{safe_name(name, 'profile')}.yaml",
            )  # fmt: skip
        if name not in known:
            near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
            expected = f"{', '.join(near)} (the nearest known)" if near else f"one of: {', '.join(known)}"
            action = f"make run PROFILE={near[0]}" if near else f"write profiles/{name}.yaml, or name one that exists"
            raise Stop(f"profile {name!r}", expected, action)


def check_folder(root: Path) -> None:
    """Raises `Stop` if the folder's path cannot be put on PATH, or if Git is missing."""
    if os.pathsep in str(root.absolute()):
        raise Stop(
            f"a folder whose path contains {os.pathsep!r}: {root.absolute()}",
            "a path that can stand on PATH", "rename the folder",
        )  # fmt: skip
    if not shutil.which("git"):
        raise Stop("no git on PATH", "git", "install it (Debian, Ubuntu: apt-get install git)")


def check_links(root: Path) -> None:
    """Raises `Stop` if an output folder is a link, whose content DVC treats as outside of the repository."""
    for path in _output_folders(root):
        if path.is_symlink():
            name, target = path.relative_to(root).as_posix(), path.readlink()
            raise Stop(
                f"{name}, a link to {target}",
                "a folder, because DVC does not track outputs behind a link",
                f"rm {name} && mkdir {name} && sudo mount --bind {target} {name}; or without root keep DVC's cache "
                "on the other disk (README.md, Disk)",
            )


def _output_folders(root: Path) -> Iterator[Path]:
    """The existing output folders of stages and their subfolders, one level deep; links are not followed."""
    for name in OUTPUTS:
        yield root / name
        if (root / name).is_dir() and not (root / name).is_symlink():
            yield from sorted(path for path in (root / name).iterdir() if path.is_dir() or path.is_symlink())


def check_rights(root: Path) -> None:
    """Raises `Stop` if this user lacks write permission."""
    fixed = [root, root / ".dvc", root / ".dvc/tmp", root / ".dvc/cache", root / ".prefect", root / "dvc.lock"]
    for path in [*fixed, *_output_folders(root)]:
        if path.exists() and not os.access(path, os.W_OK):
            raise Stop(
                f"{path.absolute()}, which user id {os.getuid()} may not write",
                "a writable checkout", f'sudo chown -R "$(id -u)" "{root.absolute()}", or clone it elsewhere',
            )  # fmt: skip


def check_modules() -> None:
    """Raises `Stop` if this Python cannot create a virtual environment, for which Debian needs python3-venv."""
    missing = [name for name in ("venv", "ensurepip") if importlib.util.find_spec(name) is None]
    if missing:
        raise Stop(
            f"a Python without its module {' and '.join(missing)}", "a complete Python",
            "install it (Debian, Ubuntu: apt-get install python3-venv)",
        )  # fmt: skip


def check_disk(root: Path, needed: int) -> None:
    """Raises `Stop` if the disk has less than `needed` bytes free."""
    free = shutil.disk_usage(root).free
    if free < needed:
        raise Stop(
            f"{free / 1e9:.1f} GB free on the disk of {root.absolute()}", f"{needed / 1e9:.1f} GB",
            "free disk space, or move this folder to a larger disk",
        )  # fmt: skip


def in_git(root: Path = Path()) -> bool:
    """Whether `root` is in a Git repository."""
    here = root.absolute()
    return any((folder / ".git").exists() for folder in (here, *here.parents))
