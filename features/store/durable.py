"""Writes that survive a power failure: bytes reach the disk before a rename makes them visible."""

import os
from contextlib import suppress
from pathlib import Path


def flush(path: Path) -> None:
    """Forces the content of a file, or the entries of a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def flush_tree(folder: Path) -> None:
    """Forces all files and folders below `folder`, and `folder` itself, to the disk."""
    for path in folder.rglob("*"):
        flush(path)
    flush(folder)


def write_text(path: Path, text: str) -> None:
    """Replaces a report or JSON file as a whole: after a kill or on a full disk the one before is still there.

    The text goes to `.<name>.tmp` beside it, which the next write of the file replaces. A device or pipe, such as
    `/dev/stdout`, is written to directly.
    """
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_text(text, encoding="utf-8")
        flush(temporary)
        temporary.replace(path)
    except OSError:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise
