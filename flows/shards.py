"""Photos as tar shards: a few large files in place of many small ones, the same bytes whoever packs them.

Enters: a folder of photos named by item key, archives of such, or both. Leaves: `photos-00000.tar`, ... of 1,000
photos.
Trade-off: a shard is rewritten whole when one photo changes; DVC and object stores like tens of files, not thousands.
"""

import hashlib
import io
import itertools
import logging
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

from features.errors import InputError

log = logging.getLogger("vip5")
PHOTOS_PER_SHARD = 1000
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


def find_photos(folder: Path, name: str) -> tuple[list[Path], list[Path]]:
    """The tar archives directly in `folder`, and the loose photos anywhere below it, both in the order of their names.

    Args:
        folder: the photo folder of a dump; `folder.tar` beside it is taken where there is no such folder.
        name: of the dump, for messages.

    Raises:
        InputError: there is neither folder nor archive, it holds no photo, or two photos have the same item key.
    """
    beside = folder.with_name(f"{folder.name}.tar")
    if not folder.is_dir() and beside.is_file():
        return [beside], []
    if not folder.is_dir():
        raise InputError(
            f"no photo folder {folder} (nor {beside.name})",
            f"<item key>.jpg files or tar archives of such, as params.yaml says for {name}",
            f"put the photos there, or set datasets.{name}.photos to null",
        )
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    archives = [path for path in files if path.suffix == ".tar" and path.parent == folder]
    photos = sorted(
        (path for path in files if path.suffix.lower() in PHOTO_SUFFIXES), key=lambda path: (path.stem, str(path))
    )
    if not archives and not photos:
        raise InputError(f"no photos in {folder}", "<item key>.jpg files or tar archives of such", "check the folder")
    for one, other in itertools.pairwise(photos):
        if one.stem == other.stem:
            raise InputError(f"two photos of item {one.stem}: {one} and {other}", "one photo an item", "remove one")
    if others := len(files) - len(archives) - len(photos):
        log.warning("%s: %d files in %s are neither photos nor tar archives and stay behind", name, others, folder)
    return archives, photos


def write_shard(photos: Sequence[Path], stream: BinaryIO) -> None:
    """Packs `photos` in the given order as <item key>.<suffix>, without owners, times or modes of this machine.

    Example:
        The same photos give the same bytes in any folder: `write_shard([Path("a/B01.jpg")], one)` and
        `write_shard([Path("b/B01.jpg")], other)` are equal.
    """
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in photos:
            content = path.read_bytes()
            member = tarfile.TarInfo(path.name)
            member.size, member.mode, member.mtime = len(content), 0o644, 0
            archive.addfile(member, io.BytesIO(content))


def shard_digest(photos: Sequence[Path]) -> str:
    """The SHA-256 of the shard that `write_shard` would write, without writing it."""
    sink = _Hashing()
    write_shard(photos, cast(BinaryIO, sink))
    return sink.digest.hexdigest()


class _Hashing:
    """As much of a file as `tarfile` needs to write to one."""

    def __init__(self) -> None:
        self.digest, self.bytes = hashlib.sha256(), 0

    def write(self, block: bytes) -> int:
        self.digest.update(block)
        self.bytes += len(block)
        return len(block)

    def tell(self) -> int:
        return self.bytes
