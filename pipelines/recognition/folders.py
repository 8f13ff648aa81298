"""Recognises folders: photos, a folder of photos for each item, shards of photos, vectors.

Reads up to 2,000 names of a folder, and of its first subfolders.
"""

import os
from itertools import islice
from pathlib import Path

from pipelines.recognition.looks import IMAGE_SUFFIXES, Look, nothing

_MOST_NAMES = 2000
_MOST_FOLDERS = 20


def look_at_folder(path: Path) -> Look:
    """The look of a folder by the names in it.

    Raises:
        OSError: The folder cannot be read.
    """
    files, folders = _names(path)
    photos = [name for name in files if name.lower().endswith(IMAGE_SUFFIXES)]
    arrays = [name for name in files if name.endswith(".npy")]
    shards = [name for name in files if name.lower().endswith(".tar")]
    if max(len(photos), len(arrays), len(shards)) == 0:
        return _of_folders(path, folders) or nothing(f"a folder without photos or vectors ({len(files)} files)")
    if len(arrays) > max(len(photos), len(shards)):
        summary = f"a folder of {_count(arrays)} .npy files, such as {arrays[0][:80]}"
        return Look(format=None, kind="vectors", summary=summary)
    if photos:
        return Look(
            format=None, kind="photos", summary=f"a folder of {_count(photos)} photos, such as {photos[0][:80]}"
        )
    return Look(
        format=None, kind="photos", summary=f"a folder of {_count(shards)} tar archives, such as {shards[0][:80]}"
    )


def _of_folders(path: Path, folders: list[str]) -> Look | None:
    inner = [_names(path / name)[0] for name in folders[:_MOST_FOLDERS]]
    photos = [name for names in inner for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
    if not photos:
        return None
    return Look(
        format=None,
        kind="photos",
        summary=f"{_count(folders)} folders of photos, such as {folders[0][:40]}/{photos[0][:60]}",
    )


def _names(path: Path) -> tuple[list[str], list[str]]:
    """The names of the first files and folders in ascending order; hidden ones are skipped."""
    files: list[str] = []
    folders: list[str] = []
    with os.scandir(path) as entries:
        for entry in islice(entries, _MOST_NAMES):
            if not entry.name.startswith("."):
                (folders if entry.is_dir(follow_symlinks=False) else files).append(entry.name)
    return sorted(files), sorted(folders)


def _count(names: list[str]) -> str:
    return f"{len(names):,}{' or more' if len(names) >= _MOST_NAMES - _MOST_FOLDERS else ''}"
