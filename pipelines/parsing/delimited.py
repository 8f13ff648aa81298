"""Cuts delimited text (CSV, TSV) into records and records into cells.

Reads runs of lines. Returns runs of records: a record whose quoted cell holds line breaks is one line of a block.
Trade-off: the end of a quoted cell is sought for at most 1,000 lines; then its first line alone is a record, so that
one stray quote does not swallow the rest of a file.
"""

import csv
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pipelines.parsing.line_blocks import Block, Run

_MOST_LINES = 1_000
_QUOTED = re.compile(rb'"(?:[^"]|"")*+"')
_REST_OF_QUOTED = re.compile(rb'(?:[^"]|"")*+"')
_LARGEST_CELL = 1 << 27


@dataclass(frozen=True)
class Dialect:
    """Delimiter of the cells, and whether a quote at the begin of a cell opens a quoted one."""

    delimiter: str
    quoted: bool = True


def sniffed(line: bytes) -> Dialect:
    """The dialect of a file by its first line: a tab, `::`, or the most frequent of comma, semicolon and bar.

    Example:
        >>> sniffed(b"user;item;rating"), sniffed(b"1::1193::5::978300760").quoted
        (Dialect(delimiter=';', quoted=True), False)
    """
    if b"\t" in line:
        return Dialect("\t")
    if b"::" in line:
        return Dialect("::", quoted=False)
    return Dialect(max(",;|", key=lambda mark: line.count(mark.encode())))


def _stays_open(line: bytes, delimiter: bytes, *, inside: bool) -> bool:
    """Whether a quoted cell is open at the end of a line; `inside` says so of its beginning."""
    place = 0
    if not inside and b'"' not in line:
        return False
    if inside:
        rest = _REST_OF_QUOTED.match(line)
        if rest is None:
            return True
        place = line.find(delimiter, rest.end()) + 1
        if not place:
            return False
    while True:
        if line[place : place + 1] == b'"':
            cell = _QUOTED.match(line, place)
            if cell is None:
                return True
            place = cell.end()
        place = line.find(delimiter, place) + 1
        if not place:
            return False


class _Joiner:
    """Joins the lines of a record; `waiting` are the lines since a quoted cell was opened."""

    def __init__(self, delimiter: bytes, most_bytes: int) -> None:
        self.delimiter, self.most_bytes = delimiter, most_bytes
        self.waiting: list[bytes] = []
        self.size = 0

    def feed(self, line: bytes) -> Iterator[bytes]:
        """Adds a line; yields the records that are complete then."""
        left = deque([line])
        while left:
            line = left.popleft()
            is_open = _stays_open(line, self.delimiter, inside=bool(self.waiting))
            self.waiting.append(line)
            self.size += len(line) + 1
            if not is_open:
                yield b"\n".join(self._taken())
            elif self.size > self.most_bytes or len(self.waiting) > _MOST_LINES:
                first, *rest = self._taken()
                left.extendleft(reversed(rest))
                yield first

    def end(self) -> Iterator[bytes]:
        """Gives up the cell that is open: yields all waiting lines."""
        while self.waiting:
            first, *rest = self._taken()
            yield first
            for line in rest:
                yield from self.feed(line)

    def _taken(self) -> list[bytes]:
        taken, self.waiting, self.size = self.waiting, [], 0
        return taken


def record_runs(runs: Iterable[Run], dialect: Dialect, most_bytes: int) -> Iterator[Run]:
    """The records of a file; an over-long line is a record of its own."""
    if not dialect.quoted:
        yield from runs
        return
    joiner = _Joiner(dialect.delimiter.encode(), most_bytes)
    for run in runs:
        if not joiner.waiting and not run.long and b'"' not in b"".join(run.lines):
            yield run
            continue
        records: list[bytes] = []
        long: list[int] = []
        last = len(run.lines) - 1
        for place, line in enumerate(run.lines):
            if place in run.long or (run.cut and place == last):
                records += joiner.end()
                if place in run.long:
                    long.append(len(records))
                records.append(line)
            else:
                records += joiner.feed(line)
        yield Run(records, tuple(long), run.cut)
    if left := list(joiner.end()):
        yield Run(left)


def texts(block: Block) -> tuple[list[str | None], dict[int, str]]:
    """The records as text, None where one cannot be read, and the reject reasons of those by index."""
    reasons = {number - block.first_line: "line_too_long" for number in block.long}
    if block.cut:
        reasons[len(block.lines) - 1] = "truncated_file"
    try:
        found: list[str | None] = list(map(bytes.decode, block.lines))
    except UnicodeDecodeError:  # of at least one line
        found = [_text(line) for line in block.lines]
        reasons = {place: "not_utf8" for place, text in enumerate(found) if text is None} | reasons
    for place in reasons:
        found[place] = None
    return found, reasons


def _text(line: bytes) -> str | None:
    try:
        return line.decode()
    except UnicodeDecodeError:
        return None


def cells(records: Sequence[str], dialect: Dialect) -> list[list[str]]:
    """The cells of each record; none where a record cannot be read.

    Example:
        >>> cells(['A,"x, y",5', "B,z,4"], Dialect(","))
        [['A', 'x, y', '5'], ['B', 'z', '4']]
    """
    if not dialect.quoted:
        return [record.split(dialect.delimiter) for record in records]
    csv.field_size_limit(_LARGEST_CELL)
    try:
        rows = list(csv.reader(records, delimiter=dialect.delimiter))
    except csv.Error:
        rows = []
    if len(rows) == len(records):
        return rows
    return [_row(record, dialect) for record in records]


def _row(record: str, dialect: Dialect) -> list[str]:
    try:
        return next(csv.reader([record], delimiter=dialect.delimiter), [])
    except csv.Error:
        return []
