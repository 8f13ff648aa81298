"""The lines of a dump's file in numbered blocks, whether it is gzipped or plain, whole or cut short.

Enters: a file. Leaves: blocks of a fixed number of lines. Several workers may read one file: each inflates all of it
(gzip cannot be entered in the middle) and keeps every n-th block.
Trade-off: real reviews inflate at 227 MB of text a second and parse at 50, so up to about four workers a file pay off;
beyond, split the file.
"""

import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from features.errors import InputError

_CHUNK_BYTES = 1 << 17  # one chunk of gzip inflates to at most 132 MB
_GZIP_MAGIC = b"\x1f\x8b"
_GZIP_WBITS = 31  # zlib's sign for a gzip header and trailer
_KEPT_OF_LONG_BYTES = 800


@dataclass(frozen=True)
class Block:
    """Lines `first_line`, `first_line + 1`, ... of a file, without their line ends.

    `cut` says that the last of them is where a damaged archive ended; `long` holds the numbers of the lines that
    exceed the limit, of which only the beginning is kept.
    """

    number: int
    first_line: int
    lines: list[bytes]
    long: frozenset[int] = frozenset()
    cut: bool = False


def blocks(path: Path, lines_per_block: int, max_line_bytes: int) -> Iterator[Block]:
    """All blocks of a file in order; the last may be shorter, and an empty file has none.

    Raises:
        InputError: a file that is called .gz and is not gzip.
    """
    number, first_line = 0, 1
    lines: list[bytes] = []
    long: set[int] = set()
    cut = False
    for line, is_long, is_cut in _lines(path, max_line_bytes):
        if is_long:
            long.add(first_line + len(lines))
        lines.append(line)
        cut = cut or is_cut
        if len(lines) == lines_per_block:
            yield Block(number, first_line, lines, frozenset(long), cut)
            number, first_line, lines, long = number + 1, first_line + len(lines), [], set()
    if lines:
        yield Block(number, first_line, lines, frozenset(long), cut)


def check_gzip(path: Path) -> None:
    """Raises InputError for a file that is called .gz and is not gzip, such as a saved error page."""
    with path.open("rb") as stream:
        begin = stream.read(12)
    if path.suffix == ".gz" and not begin.startswith(_GZIP_MAGIC):
        raise InputError(f"{path} that is not gzip (it begins with {begin!r})", "a gzip file", "bring it in again")


def _lines(path: Path, max_line_bytes: int) -> Iterator[tuple[bytes, bool, bool]]:
    """(line, too long, cut) of a file; of a line that is too long, the first bytes."""
    tail, skipping = b"", False
    for chunk in _chunks(path):
        if chunk is None:
            yield tail, False, True
            return
        *whole, rest = chunk.split(b"\n")
        if whole:
            whole[0] = tail + (b"" if skipping else whole[0])
            for place, line in enumerate(whole):
                is_long = (skipping and place == 0) or len(line) > max_line_bytes
                yield (line[:_KEPT_OF_LONG_BYTES] if is_long else line.removesuffix(b"\r")), is_long, False
            tail, skipping = b"", False
        if not skipping:
            tail += rest
            if len(tail) > max_line_bytes:
                tail, skipping = tail[:_KEPT_OF_LONG_BYTES], True
    if tail:
        yield tail.removesuffix(b"\r"), skipping, False


def _chunks(path: Path) -> Iterator[bytes | None]:
    """The bytes of a file, inflated where it is gzip; a final None where the archive is damaged."""
    check_gzip(path)
    with path.open("rb") as stream:
        raw = stream.read(_CHUNK_BYTES)
        if raw.startswith(_GZIP_MAGIC):
            yield from _inflated(stream, raw)
            return
        while raw:
            yield raw
            raw = stream.read(_CHUNK_BYTES)


def _inflated(stream: BinaryIO, raw: bytes) -> Iterator[bytes | None]:
    """The members of a gzip file one after the other; zeros between them are padding."""
    while raw:
        inflater = zlib.decompressobj(wbits=_GZIP_WBITS)
        while not inflater.eof:
            raw = raw or stream.read(_CHUNK_BYTES)
            if not raw:
                yield None
                return
            before = inflater.copy()
            try:
                yield inflater.decompress(raw)
            except zlib.error:
                yield _salvaged(before, raw)
                yield None
                return
            raw = b""
        raw = inflater.unused_data.lstrip(b"\0")
        while not raw and (more := stream.read(_CHUNK_BYTES)):
            raw = more.lstrip(b"\0")


def _salvaged(inflater: "zlib._Decompress", raw: bytes) -> bytes:
    """What can be inflated of a damaged chunk before the damage."""
    saved = bytearray()
    for place in range(len(raw)):
        try:
            saved += inflater.decompress(raw[place : place + 1])
        except zlib.error:
            break
    return bytes(saved)
