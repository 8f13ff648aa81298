"""Temporary files beside the files that they become, and the removal of those that a killed run left."""

import secrets
from pathlib import Path


def temporary(path: Path) -> Path:
    """A hidden name beside `path` that no other process uses.

    Example:
        `temporary(Path("a/b.json"))` may return `Path("a/.b.json.1f08c2d9.tmp")`.
    """
    return path.with_name(f".{path.name.lstrip('.')}.{secrets.token_hex(4)}.tmp")


def remove_strays(folder: Path) -> None:
    """Deletes the temporary files in `folder`; call it under the lock of the dump, when no other process writes."""
    for stray in folder.glob(".*.tmp"):
        stray.unlink(missing_ok=True)
