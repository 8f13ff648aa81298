"""An output folder that appears whole or not at all."""

import shutil
from collections.abc import Callable
from pathlib import Path

from features.errors import InputError


def check(folder: Path, *, force: bool) -> None:
    """Raises InputError if `folder` is a file, or holds something and `force` is False."""
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}, which is a file", "a folder", "choose another with --out FOLDER")
    if folder.exists() and any(folder.iterdir()) and not force:
        raise InputError(
            f"{folder}, which is not empty", "a new or empty folder",
            "write over its files of the same names with --force, or choose another with --out FOLDER",
        )  # fmt: skip


def fill(folder: Path, write: Callable[[Path], list[str]]) -> list[str]:
    """Writes into a folder beside `folder`, then moves every file to its place; returns what `write` returns.

    Files of other names in `folder` are left alone.
    """
    folder = folder.absolute()
    staging = folder.with_name(f".{folder.name}.staging")
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    try:
        lines = write(staging)
        for path in sorted(path for path in staging.rglob("*") if path.is_file()):
            place = folder / path.relative_to(staging)
            place.parent.mkdir(parents=True, exist_ok=True)
            path.replace(place)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return lines
