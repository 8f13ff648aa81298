"""Photos as reproducible tar shards of 1,000 photos each.

Reads a folder of photos named by item key, archives of such photos, or both. Writes `photos-00000.tar`, ...

Trade-off: a shard is rewritten if one photo changes, because DVC and object stores handle tens of large files better
than thousands of small ones.
"""

import contextlib
import errno
import hashlib
import io
import itertools
import logging
import os
import tarfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from features.errors import InputError
from flows.download.temporary_files import remove_strays, temporary

log = logging.getLogger("vip5")
PHOTOS_PER_SHARD = 1000
SYNC_BYTES = 16_000_000
PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp")


def find_photos(folder: Path, name: str, own: Collection[Path] = ()) -> tuple[list[Path], list[Path]]:
    """Finds the tar archives in `folder` and the loose photos below it, such as a folder per item, sorted by name.

    Args:
        folder: the photo folder of a dump; if it does not exist, `folder.tar` beside it is used.
        name: the name of the dump, for messages.
        own: the other files of the dump, which may lie in the same folder.

    Raises:
        InputError: there is neither folder nor archive, there are no photos, or two photos of a folder have the same
            item key.
    """
    beside = folder.with_name(f"{folder.name}.tar")
    if not folder.is_dir() and beside.is_file():
        return [beside], []
    if not folder.is_dir():
        raise InputError(
            f"no photo folder {folder} (nor {beside.name})",
            f"<item key>.jpg files or tar archives of them, as configured for {name} in params.yaml",
            f"put the photos there, or set datasets.{name}.photos to null",
        )
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    archives = [path for path in files if path.suffix == ".tar" and path.parent == folder]
    photos = sorted(
        (path for path in files if path.suffix.lower() in PHOTO_SUFFIXES), key=lambda path: (path.stem, str(path))
    )
    if not archives and not photos:
        raise InputError(f"no photos in {folder}", "<item key>.jpg files or tar archives of them", "check the folder")
    for one, other in itertools.pairwise(photos):
        if (one.parent, one.stem) == (other.parent, other.stem):
            raise InputError(f"two photos of item {one.stem}: {one} and {other}", "one photo per item", "remove one")
    others = sorted({path for path in files if not path.name.startswith(".")} - {*archives, *photos, *own})
    if others:
        shown = f"{len(others)} files, such as {others[0].name}," if len(others) > 1 else others[0].name
        log.warning("%s: left aside: %s in %s: neither photos nor tar archives", name, shown, folder)
    return archives, photos


def write_shard(photos: Sequence[Path], stream: BinaryIO, folder: Path | None = None) -> None:
    """Packs `photos` in the given order, with normalised owners, times and modes.

    Args:
        photos: the files.
        stream: where the tar is written.
        folder: members are named by their path in it; None names them by their file name.

    Example:
        The same photos give the same bytes in any folder: `write_shard([Path("a/B01.jpg")], one)` and
        `write_shard([Path("b/B01.jpg")], other)` are equal.
    """
    names = (path.name if folder is None else path.relative_to(folder).as_posix() for path in photos)
    write_members(((name, path.read_bytes()) for name, path in zip(names, photos, strict=True)), stream)


def write_members(members: Iterable[tuple[str, bytes]], stream: BinaryIO) -> None:
    """Packs (name, bytes) pairs in the given order, with normalised owners, times and modes."""
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, content in members:
            archive.addfile(_member(name, len(content)), io.BytesIO(content))


@dataclass(frozen=True, kw_only=True)
class _Member:
    """A photo in a tar, and the SHA-256 of its bytes."""

    name: str
    archive: Path
    start: int
    size: int
    digest: str

    def read(self) -> bytes:
        """The bytes; raises InputError unless they still have the digest."""
        data = _read(self.archive, self.start, self.size)
        if _digest(data) != self.digest:
            raise InputError(
                f"{self.name} in {self.archive} that changed while it was copied", "one process at a time",
                "stop other programs that write there, and run the ingest again",
            )  # fmt: skip
        return data


class AppendTar:
    """An append-only tar of photos, each written in one system call; drops a truncated last member when opened.

    Creating thousands of small files takes longer than downloading them. A background thread calls fsync after every
    `SYNC_BYTES`, so that `close` returns quickly.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = max((start + size for _, start, size in _index(path)), default=0) if path.is_file() else 0
        self._file = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        os.ftruncate(self._file, _padded(whole))
        os.lseek(self._file, 0, os.SEEK_END)
        self._unsynced, self._syncing = 0, ThreadPoolExecutor(1)
        self._synced: Future[None] | None = None

    def add(self, name: str, content: bytes) -> None:
        """Appends one photo."""
        header = _member(name, len(content)).tobuf(tarfile.PAX_FORMAT)
        block = header + content + bytes(_padded(len(content)) - len(content))
        if os.write(self._file, block) != len(block):
            raise OSError(errno.ENOSPC, "no disk space for a photo")
        self._unsynced += len(block)
        if self._unsynced >= SYNC_BYTES and (self._synced is None or self._synced.done()):
            self._raise_if_not_synced()
            self._unsynced, self._synced = 0, self._syncing.submit(os.fsync, self._file)

    def close(self) -> None:
        """Flushes the file to disk and closes it."""
        self._syncing.shutdown()
        try:
            self._raise_if_not_synced()
            os.fsync(self._file)
        finally:
            os.close(self._file)

    def _raise_if_not_synced(self) -> None:
        """Raises the error of the last fsync; the kernel reports a failed write only once."""
        if self._synced is not None:
            self._synced.result()


def add_photos(
    incoming: Path, folder: Path, recorded: Mapping[str, str], *, per_shard: int = PHOTOS_PER_SHARD
) -> list[str]:
    """Moves the photos of `incoming` into the shards of `folder`; returns the names of the shards written.

    Rewrites shards that hold an older photo of an item, fills the last shard, and adds new ones. Shards are replaced
    atomically and `incoming` is deleted last, so that the function can be killed and repeated.

    Args:
        incoming: the tar of downloaded photos.
        folder: the folder of the shards.
        recorded: SHA-256 by photo name. A photo of `incoming` without its recorded digest is left out; one in a shard
            is removed if another digest is recorded.
        per_shard: maximum number of photos per shard.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_strays(folder)
    held = {Path(name).stem: one for name, one in _members(incoming).items()}  # the last photo of an item wins
    arriving = {stem: one for stem, one in sorted(held.items()) if recorded.get(one.name) == one.digest}
    shards = sorted(folder.glob("photos-*.tar"))
    written: set[str] = set()
    for shard in shards:
        there = _members(shard)
        own = {name: one for name, one in there.items() if recorded.get(name, one.digest) == one.digest}
        if len(own) < len(there):
            log.warning(
                "ingest: %s: removing %d photos with another digest than recorded", shard, len(there) - len(own)
            )
        kept = {name: one for name, one in own.items() if Path(name).stem not in arriving}
        if len(kept) < len(there):
            written.add(_write_shard(shard, kept.values()))
    waiting = list(arriving.values())
    if shards and waiting:
        last = _members(shards[-1])
        room = max(0, per_shard - len(last))
        if room:
            written.add(_write_shard(shards[-1], [*last.values(), *waiting[:room]]))
        waiting = waiting[room:]
    first = int(shards[-1].stem.rpartition("-")[2]) + 1 if shards else 0
    for index, start in enumerate(range(0, len(waiting), per_shard), start=first):
        written.add(_write_shard(folder / f"photos-{index:05d}.tar", waiting[start : start + per_shard]))
    incoming.unlink()
    return sorted(written)


def photo_names(folder: Path) -> dict[str, str]:
    """The names of all photos in the shards of `folder`, by source such as `photos-00000.tar:B1.jpg`."""
    return {
        f"{shard.name}:{name}": name for shard in sorted(folder.glob("photos-*.tar")) for name, _, _ in _index(shard)
    }


def _write_shard(shard: Path, members: Iterable[_Member]) -> str:
    temporary_file = temporary(shard)
    with temporary_file.open("wb") as stream:
        write_members(((one.name, one.read()) for one in sorted(members, key=lambda one: one.name)), stream)
        stream.flush()
        os.fsync(stream.fileno())
    temporary_file.rename(shard)
    return shard.name


def _members(archive: Path) -> dict[str, _Member]:
    """The members of a tar by name, each with the digest of its bytes; the last of a name wins."""
    return {
        name: _Member(name=name, archive=archive, start=start, size=size, digest=_digest(_read(archive, start, size)))
        for name, start, size in _index(archive)
    }


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _index(archive: Path) -> list[tuple[str, int, int]]:
    """(name, offset, size in bytes) of the members of a tar; ignores a truncated last member."""
    end = archive.stat().st_size
    found: list[tuple[str, int, int]] = []
    with contextlib.suppress(tarfile.ReadError), tarfile.open(archive, "r:") as members:  # empty, or a truncated header
        found.extend(
            (member.name, member.offset_data, member.size)
            for member in members
            if member.offset_data + _padded(member.size) <= end
        )
    return found


def _read(archive: Path, start: int, size: int) -> bytes:
    with archive.open("rb") as stream:
        stream.seek(start)
        return stream.read(size)


def _padded(size: int) -> int:
    return -(-size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o644, 0
    return member


def shard_digest(photos: Sequence[Path], folder: Path | None = None) -> str:
    """The SHA-256 of the shard that `write_shard` would write, without writing it."""
    sink = _Hashing()
    write_shard(photos, cast(BinaryIO, sink), folder)
    return sink.digest.hexdigest()


class _Hashing:
    """The part of the file interface that `tarfile` writes to."""

    def __init__(self) -> None:
        self.digest, self.bytes = hashlib.sha256(), 0

    def write(self, block: bytes) -> int:
        self.digest.update(block)
        self.bytes += len(block)
        return len(block)

    def tell(self) -> int:
        return self.bytes
