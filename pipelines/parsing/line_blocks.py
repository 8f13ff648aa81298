"""Reads a dump file as numbered blocks of lines; the file may be gzipped or plain, complete or truncated.

Returns blocks of a fixed number of lines. Memory is one block plus two megabytes, independent of the file size.
Trade-off: several workers may read one file. Each decompresses all of it (gzip does not support random access) and
keeps every n-th block. Decompression is a sixth of the work, so eight readers per file run about four times as fast as
one; beyond that, the file must be split (docs/decisions/0008).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path
from typing import Any, BinaryIO

from isal import isal_zlib

from features.errors import InputError

_CHUNK_BYTES = 1 << 17
_PIECE_BYTES = 1 << 16  # decompressed at once, whatever the compression ratio; lost at most by a damaged archive
_BLOCK_BYTES = 1 << 26
_FREE_BYTES = 1 << 23  # exempt from the ratio check: small files are harmless
_GZIP_MAGIC = b"\x1f\x8b"
_OTHER_MAGIC = (b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd", b"7z\xbc\xaf", b"PAR1")
_GZIP_WBITS = 31  # zlib's code for a gzip header and trailer
_KEPT_OF_LONG_BYTES = 800
_SNIFFED_BYTES = 512
_DAMAGED: Any = (isal_zlib.error, EOFError)  # isal types its error as an instance


@dataclass(frozen=True)
class Block:
    """Lines `first_line`, `first_line + 1`, ... of a file, without line ends.

    `cut` is True if the last line was truncated by a damaged archive; `long` holds the numbers of lines over the
    length limit, of which only the beginning is kept.
    """

    number: int
    first_line: int
    lines: list[bytes]
    long: frozenset[int] = frozenset()
    cut: bool = False


@dataclass(frozen=True)
class _Run:
    """Consecutive lines, and the indices of those over the length limit."""

    lines: list[bytes]
    long: tuple[int, ...] = ()
    cut: bool = False


def blocks(
    path: Path, lines_per_block: int, max_line_bytes: int, max_decompression_ratio: float = float("inf")
) -> Iterator[Block]:
    """Yields all blocks of a file in order; the last may be shorter, and an empty file has none.

    A block that would exceed 64 MB has fewer lines, so blocks depend only on the file.

    Raises:
        InputError: a file named .gz is neither gzip nor text; or, beyond the first 8 MB, it decompresses to more than
            `max_decompression_ratio` bytes per compressed byte.
    """
    number, first_line = 0, 1
    lines: list[bytes] = []
    long: set[int] = set()
    size, cut = 0, False
    for run in _runs(path, max_line_bytes, max_decompression_ratio):
        long.update(first_line + len(lines) + place for place in run.long)
        lines += run.lines
        size += sum(map(len, run.lines))
        cut = run.cut
        done = 0
        while (length := _block_length(lines, done, size, lines_per_block)) is not None:
            block = lines[done : done + length]
            done += length
            size -= sum(map(len, block))
            inside = frozenset(line for line in long if line < first_line + length)
            yield Block(number, first_line, block, inside, cut and done == len(lines))
            number, first_line, long = number + 1, first_line + length, long - inside
        del lines[:done]
    if lines:
        yield Block(number, first_line, lines, frozenset(long), cut)


def _block_length(lines: list[bytes], done: int, size: int, lines_per_block: int) -> int | None:
    """Number of lines from index `done` that form a block (as many as the limits allow, at least 1); None if undecided.

    `size` is the number of bytes of those lines.
    """
    left = len(lines) - done
    most = min(left, lines_per_block)
    if size > _BLOCK_BYTES:
        within = sum(total <= _BLOCK_BYTES for total in accumulate(map(len, islice(lines, done, done + most))))
        if within < most:
            return max(within, 1)
    return lines_per_block if left >= lines_per_block else None


def check_gzip(path: Path) -> bool:
    """Whether the content is what the name says: gzip if it ends with .gz; False for text, which a browser inflated.

    Raises:
        InputError: A file named .gz is empty, a saved web page, or in another binary format.
    """
    with path.open("rb") as stream:
        begin = stream.read(_SNIFFED_BYTES)
    if path.suffix != ".gz" or begin.startswith(_GZIP_MAGIC):
        return True
    reason = _unreadable(begin)
    if reason is None:
        return False
    raise InputError(f"{path} that is not gzip (it begins with {begin[:12]!r})", "a gzip file", reason)


def _unreadable(begin: bytes) -> str | None:
    """What to do about a file that begins so and is neither gzip nor text; None for text."""
    if not begin:
        return "download the file and ingest it again: this one is empty"
    if begin.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        return "download the file itself and ingest it again: this is a web page, such as an error or a login page"
    if b"\0" in begin or begin.startswith(_OTHER_MAGIC):
        return "unpack the file, compress it with gzip and ingest it again: this is another binary format"
    return None


def _runs(path: Path, max_line_bytes: int, max_decompression_ratio: float) -> Iterator[_Run]:
    """The lines of a file; over-long lines are shortened, and a damaged archive ends with a truncated line."""
    tail, skipping = b"", False
    for piece in _pieces(path, max_decompression_ratio):
        if piece is None:
            yield _Run([tail], cut=True)
            return
        *lines, rest = piece.split(b"\n")
        if lines:
            lines[0] = tail + (b"" if skipping else lines[0])
            yield _checked(lines, max_line_bytes, skipping, returns=b"\r" in piece or tail.endswith(b"\r"))
            tail, skipping = b"", False
        if not skipping:
            tail += rest
            if len(tail) > max_line_bytes:
                tail, skipping = tail[:_KEPT_OF_LONG_BYTES], True
    if tail:
        yield _checked([tail], max_line_bytes, skipping, returns=True)


def _checked(lines: list[bytes], max_line_bytes: int, first_is_long: bool, *, returns: bool) -> _Run:
    """The lines without carriage returns, over-long ones shortened; `first_is_long` marks the first as over-long."""
    if returns:
        lines = [line.removesuffix(b"\r") for line in lines]
    long: tuple[int, ...] = (0,) if first_is_long else ()
    if max_line_bytes < _PIECE_BYTES or len(lines[0]) > max_line_bytes:
        more = {place for place, line in enumerate(lines) if len(line) > max_line_bytes}
        long = tuple(sorted(more.union(long)))
    for place in long:
        lines[place] = lines[place][:_KEPT_OF_LONG_BYTES]
    return _Run(lines, long)


def _pieces(path: Path, max_decompression_ratio: float) -> Iterator[bytes | None]:
    """The bytes of a file, decompressed if it is gzip; a damaged archive ends with None.

    A truncated archive gives all bytes before its end, one with wrong bytes or a wrong checksum up to a piece less.
    """
    check_gzip(path)
    with path.open("rb") as stream:
        if stream.read(2) != _GZIP_MAGIC:
            stream.seek(0)
            while piece := stream.read(_PIECE_BYTES):
                yield piece
            return
        stream.seek(0)
        given = 0
        try:
            for piece in _inflated(stream):
                given += len(piece)
                if given > _FREE_BYTES and given > max_decompression_ratio * stream.tell():
                    raise InputError(
                        f"{path} that decompresses to more than {max_decompression_ratio:g} times its size "
                        f"({stream.tell():,} bytes to {given:,})",
                        "a dump, which decompresses to 3 to 10 times its size",
                        "inspect the file; if it is a dump, set records.max_decompression_ratio to 1100",
                    )  # fmt: skip
                yield piece
        except _DAMAGED:
            yield None


def _inflated(stream: BinaryIO) -> Iterator[bytes]:
    """The decompressed members of a gzip file, in pieces; zeros between members are padding.

    Raises:
        EOFError: The file ends within a member.
    """
    raw = stream.read(_CHUNK_BYTES)
    while raw:
        inflater = isal_zlib.decompressobj(wbits=_GZIP_WBITS)
        while not inflater.eof:
            piece = inflater.decompress(raw, _PIECE_BYTES)
            raw = inflater.unconsumed_tail
            if piece:
                yield piece
            elif not raw and not inflater.eof:
                raw = stream.read(_CHUNK_BYTES)
                if not raw:
                    raise EOFError
        raw = inflater.unused_data.lstrip(b"\0")
        while not raw and (more := stream.read(_CHUNK_BYTES)):
            raw = more.lstrip(b"\0")
