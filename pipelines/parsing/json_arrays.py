"""Cuts a JSON array into its elements, whatever its line breaks: each element becomes one line of a block.

Reads the pieces of a file. Returns runs of lines, numbered by element.
Trade-off: elements are found by brackets and quotes alone and parsed later, like the lines of a dump, so that a wrong
element is one reject and not the end of the file. Memory is one element and one piece.
"""

import re
from collections.abc import Iterable, Iterator

from pipelines.parsing.line_blocks import KEPT_OF_LONG_BYTES, Run

_TO_BRACKET = re.compile(rb'(?:[^"\[\]{}]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+(["\[\]{}])', re.DOTALL)
_REST_OF_STRING = re.compile(rb'[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
_ARRAY = re.compile(rb"\s*\[\s*(?:[{\]]|\Z)")
_BETWEEN = b" \t\r\n,\xef\xbb\xbf"


def is_array(beginning: bytes) -> bool:
    r"""Whether a file that begins like this is an array of objects.

    Example:
        >>> is_array(b'[\n {"asin":'), is_array(b'{"asin": ['), is_array(b"[1]")
        (True, False, False)
    """
    return _ARRAY.match(beginning) is not None


class _Cutter:
    """State between pieces: the bytes that belong to no element yet, and the depth of brackets at their end."""

    def __init__(self, max_line_bytes: int) -> None:
        self.most = max_line_bytes
        self.buffer = b""
        self.place = 0  # bytes of the buffer that are scanned
        self.start: int | None = None  # of the element in the buffer
        self.depth = 0
        self.in_string = False
        self.is_long = False
        self.elements: list[bytes] = []
        self.long: list[int] = []

    def feed(self, piece: bytes) -> Run:
        """Adds a piece; returns the elements that it completes."""
        self.buffer += piece
        self.elements, self.long = [], []
        done = self._scan()
        if self.start is None:
            self._junk(self.buffer[done : self.place])
            done = self.place
        elif len(self.buffer) - self.start > self.most:
            self.is_long = True  # keep the beginning and what is not scanned
            kept = self.buffer[self.start : min(self.start + KEPT_OF_LONG_BYTES, self.place)]
            self.buffer = kept + self.buffer[self.place :]
            self.place, self.start, done = len(kept), 0, 0
        self.buffer, self.place = self.buffer[done:], self.place - done
        self.start = None if self.start is None else self.start - done
        return Run(self.elements, tuple(self.long))

    def _scan(self) -> int:
        """Scans all that is complete; returns where the first byte lies that belongs to no finished element."""
        done = 0
        while True:
            if self.in_string:
                rest = _REST_OF_STRING.match(self.buffer, self.place)
                if rest is None:
                    self.place = len(self.buffer) - self._open_escape()
                    return done
                self.place, self.in_string = rest.end(), False
            while (found := _TO_BRACKET.match(self.buffer, self.place)) is not None:
                mark, end = found[1], found.end()
                self.place = end
                if mark == b'"':  # of a string that does not end in the buffer
                    self.in_string = True
                    break
                if mark in b"[{":
                    self.depth += 1
                    if self.depth == 2:
                        self._junk(self.buffer[done : end - 1])
                        self.start = done = end - 1
                elif self.depth == 2:
                    self._finish(self.buffer[done:end])
                    done = end
                elif self.depth > 2 or mark == b"]":
                    self.depth = max(self.depth - 1, 0)
            if not self.in_string:
                self.place = len(self.buffer)
                return done

    def _open_escape(self) -> int:
        """1 if the buffer ends within an escape."""
        left = self.buffer[self.place :]
        return (len(left) - len(left.rstrip(b"\\"))) % 2

    def _finish(self, element: bytes) -> None:
        if self.is_long or len(element) > self.most:
            self.long.append(len(self.elements))
            element = element[:KEPT_OF_LONG_BYTES]
        self.elements.append(element)
        self.depth, self.start, self.is_long = 1, None, False

    def _junk(self, between: bytes) -> None:
        """Adds what stands between two elements as an element, for it cannot be read."""
        left = between.strip(_BETWEEN + (b"[]" if self.depth < 2 else b"["))
        if left:
            self.elements.append(left[:KEPT_OF_LONG_BYTES])

    def end(self, *, damaged: bool) -> Run | None:
        """The last element if the array is not closed, marked as cut."""
        if self.depth == 0 and not damaged and not self.in_string:
            return None
        left = b"" if self.start is None else self.buffer[self.start :]
        return Run([left[:KEPT_OF_LONG_BYTES]], cut=True)


def element_runs(pieces: Iterable[bytes | None], max_line_bytes: int) -> Iterator[Run]:
    """The elements of an array as runs of lines; an array that is not closed ends with a truncated line."""
    cutter, damaged = _Cutter(max_line_bytes), False
    for piece in pieces:
        if piece is None:
            damaged = True
            break
        run = cutter.feed(piece)
        if run.lines:
            yield run
    last = cutter.end(damaged=damaged)
    if last is not None:
        yield last
