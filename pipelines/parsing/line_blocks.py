"""Reads a dump file as numbered blocks of lines; the file may be gzipped or plain, complete or truncated.

Returns blocks of a fixed number of lines. Memory is one block plus two megabytes, independent of the file size.
Trade-off: several workers may read one file. Each decompresses all of it (gzip does not support random access) and
keeps every n-th block. Decompression is a sixth of the work, so eight readers per file run about four times as fast as
one; beyond that, the file must be split (docs/decisions/0008).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import accumulate, islice
from pathlib import Path

from pipelines.parsing import byte_pieces

_BLOCK_BYTES = 1 << 26
KEPT_OF_LONG_BYTES = 800


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
class Run:
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
    return grouped(line_runs(path, max_line_bytes, max_decompression_ratio), lines_per_block)


def grouped(runs: Iterable[Run], lines_per_block: int, first_line: int = 1) -> Iterator[Block]:
    """Yields the lines of `runs` as blocks, the first of which is line `first_line` of the file."""
    number = 0
    lines: list[bytes] = []
    long: set[int] = set()
    size, cut = 0, False
    for run in runs:
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


def line_runs(path: Path, max_line_bytes: int, max_decompression_ratio: float) -> Iterator[Run]:
    """The lines of a file; over-long lines are shortened, and a damaged archive ends with a truncated line."""
    tail, skipping = b"", False
    for piece in byte_pieces.pieces(path, max_decompression_ratio):
        if piece is None:
            yield Run([tail], cut=True)
            return
        *lines, rest = piece.split(b"\n")
        if lines:
            lines[0] = tail + (b"" if skipping else lines[0])
            yield _checked(lines, max_line_bytes, skipping, returns=b"\r" in piece or tail.endswith(b"\r"))
            tail, skipping = b"", False
        if not skipping:
            tail += rest
            if len(tail) > max_line_bytes:
                tail, skipping = tail[:KEPT_OF_LONG_BYTES], True
    if tail:
        yield _checked([tail], max_line_bytes, skipping, returns=True)


def unmarked(runs: Iterable[Run]) -> Iterator[Run]:
    """The runs without a byte-order mark before the first line."""
    is_first = True
    for run in runs:
        if is_first and run.lines:
            is_first = False
            yield Run([run.lines[0].removeprefix(byte_pieces.BYTE_ORDER_MARK), *run.lines[1:]], run.long, run.cut)
        else:
            yield run


def _checked(lines: list[bytes], max_line_bytes: int, first_is_long: bool, *, returns: bool) -> Run:
    """The lines without carriage returns, over-long ones shortened; `first_is_long` marks the first as over-long."""
    if returns:
        lines = [line.removesuffix(b"\r") for line in lines]
    long: tuple[int, ...] = (0,) if first_is_long else ()
    if max_line_bytes < byte_pieces.PIECE_BYTES or len(lines[0]) > max_line_bytes:
        more = {place for place, line in enumerate(lines) if len(line) > max_line_bytes}
        long = tuple(sorted(more.union(long)))
    for place in long:
        lines[place] = lines[place][:KEPT_OF_LONG_BYTES]
    return Run(lines, long)
