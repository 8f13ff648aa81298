"""What a download needs to know of itself: which version a part belongs to, room on the disk, pace, a whole end.

Enters: response headers, sizes, times. Leaves: notes beside the files, and errors where something does not add up.
Trade-off: a note is a small JSON file beside each download rather than one table, so that each renames with its file.
"""

import json
import shutil
import time
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp

from features.errors import InputError
from flows.download.http_client import Fetching, TemporaryError

BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Note:
    """What is remembered of a file or of a part of one: where it came from and which version it was."""

    url: str
    etag: str | None
    last_modified: str | None
    bytes: int | None
    """Of the whole file."""
    sha256: str | None = None
    """Of the whole file; None for a part."""

    @property
    def validator(self) -> str | None:
        """What If-Range may be given: a strong ETag, else the date."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


class Ledger:
    """Disk that downloads under way have yet to fill, so that two of them do not count on the same room."""

    def __init__(self, folder: Path, spare_bytes: int) -> None:
        self._folder, self._spare = folder, spare_bytes
        self._open: dict[str, int] = {}

    def claim(self, name: str, num_bytes: int) -> None:
        """Sets aside room for the rest of a file; raises InputError where there is none."""
        self._open.pop(name, None)
        free = shutil.disk_usage(self._folder).free - sum(self._open.values()) - self._spare
        if num_bytes and num_bytes > free:
            raise InputError(
                f"{max(free, 0):,} bytes free for {name} beside {self._spare:,} that must stay free",
                f"{num_bytes:,} bytes", "make room, or lower ingest.spare_bytes, and run again",
            )  # fmt: skip
        self._open[name] = num_bytes

    def release(self, name: str) -> None:
        """Gives the room back: the file is there, or was given up."""
        self._open.pop(name, None)


class Pace:
    """Breaks an answer off that trickles: fewer bytes than the least mean over the last stretch."""

    def __init__(self, how: Fetching) -> None:
        self._least, self._stretch = how.slowest_bytes_per_second, how.silence_seconds
        self._since, self._bytes = time.monotonic(), 0

    def check(self, num_bytes: int) -> None:
        """Counts a block; raises TemporaryError at the end of a stretch that was too slow."""
        self._bytes += num_bytes
        spent = time.monotonic() - self._since
        if spent < self._stretch:
            return
        if self._bytes < self._least * spent:
            raise TemporaryError(f"{self._bytes / spent:.0f} bytes a second, fewer than {self._least}")
        self._since, self._bytes = time.monotonic(), 0


def is_whole_gzip(path: Path) -> bool:
    """Whether the file is one gzip stream, or several in a row, to its very end, checksums included."""
    inflate, begun = zlib.decompressobj(wbits=31), False
    try:
        with path.open("rb") as stream:
            while block := stream.read(BLOCK_BYTES):
                while block:
                    begun = True
                    inflate.decompress(block, BLOCK_BYTES)  # by pieces: a block of zeros grows a thousandfold
                    block = inflate.unconsumed_tail
                    if inflate.eof:
                        block, begun = inflate.unused_data, False
                        inflate = zlib.decompressobj(wbits=31)
    except zlib.error:
        return False
    return not begun and path.stat().st_size > 0


def note_of(url: str, response: aiohttp.ClientResponse, start: int) -> Note:
    """The note of an answer whose bytes begin at `start` of the file."""
    headers: Mapping[str, str] = response.headers
    length = response.content_length
    total: int | None = None if length is None else length + start
    if response.status == 206:
        said = headers.get("Content-Range", "").rpartition("/")[2]
        total = int(said) if said.isdigit() else total
    return Note(url=url, etag=headers.get("ETag"), last_modified=headers.get("Last-Modified"), bytes=total)


def note_path(path: Path) -> Path:
    """Where the note of a file, or of its part, lies."""
    return path.with_name(f".{path.name.strip('.')}.note.json")


def read_note(path: Path) -> Note | None:
    """The note of a file; None where there is none that can be read."""
    try:
        return Note(**json.loads(note_path(path).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):  # none, or cut off by a crash: as if nothing were known
        return None


def write_note(path: Path, note: Note) -> None:
    """Writes the note of a file whole, or not at all."""
    temporary = note_path(path).with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(note)), encoding="utf-8")
    temporary.rename(note_path(path))
