"""Photos as tar shards: a few large files in place of many small ones, the same bytes whoever packs them.

Enters: a folder of photos named by item key, archives of such, or both. Leaves: `photos-00000.tar`, ... of 1,000
photos.
Trade-off: a shard is rewritten whole when one photo changes; DVC and object stores like tens of files, not thousands.
"""

import hashlib
import io
import itertools
import logging
import os
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
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
    write_members(((path.name, path.read_bytes()) for path in photos), stream)


def write_members(members: Iterable[tuple[str, bytes]], stream: BinaryIO) -> None:
    """Packs (name, bytes) in the given order, without owners, times or modes of this machine."""
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.mtime = len(content), 0o644, 0
            archive.addfile(member, io.BytesIO(content))


def add_photos(photos: Sequence[Path], folder: Path, *, per_shard: int = PHOTOS_PER_SHARD) -> list[str]:
    """Moves loose `photos` into the shards of `folder`; returns the names of the shards that were written.

    Only three kinds of shards are: those that hold an older photo of the same item, the last one while it is not full,
    and new ones. A shard is written beside its place and renamed, a loose photo removed last: safe to kill and repeat.
    """
    folder.mkdir(parents=True, exist_ok=True)
    arriving = {path.stem: path for path in photos}
    shards = sorted(folder.glob("photos-*.tar"))
    names = {shard: _member_names(shard) for shard in shards}
    written = []
    for shard in shards:
        if any(Path(name).stem in arriving for name in names[shard]):
            names[shard] = [name for name in names[shard] if Path(name).stem not in arriving]
            _write_shard(shard, dict(_members(shard, names[shard])))
            written.append(shard.name)
    waiting = [arriving[stem] for stem in sorted(arriving)]
    if shards and len(names[shards[-1]]) < per_shard and waiting:
        last, room = shards[-1], per_shard - len(names[shards[-1]])
        more = {path.name: path.read_bytes() for path in waiting[:room]}
        _write_shard(last, dict(_members(last, names[last])) | more)
        written.append(last.name)
        waiting = waiting[room:]
    first = int(shards[-1].stem.rpartition("-")[2]) + 1 if shards else 0
    for index, start in enumerate(range(0, len(waiting), per_shard), start=first):
        shard = folder / f"photos-{index:05d}.tar"
        _write_shard(shard, {path.name: path.read_bytes() for path in waiting[start : start + per_shard]})
        written.append(shard.name)
    for path in photos:
        path.unlink()
    return sorted(set(written))


def photo_names(folder: Path) -> set[str]:
    """The names of all photos in the shards of `folder`."""
    return {name for shard in folder.glob("photos-*.tar") for name in _member_names(shard)}


def _member_names(shard: Path) -> list[str]:
    with tarfile.open(shard, "r:") as archive:
        return archive.getnames()


def _members(shard: Path, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(shard, "r:") as archive:
        for name in names:
            stream = archive.extractfile(name)
            if stream is not None:
                yield name, stream.read()


def _write_shard(shard: Path, members: Mapping[str, bytes]) -> None:
    temporary = shard.with_name(f".{shard.name}.tmp")
    with temporary.open("wb") as stream:
        write_members(sorted(members.items()), stream)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.rename(shard)


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
