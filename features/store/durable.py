"""Writes that survive a power failure: bytes reach the disk before a rename makes them visible."""

import os
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
