"""The log of photo downloads: one JSON line per outcome, appended as it happens.

Writes `outcomes.jsonl`, where the last line of an item counts.

Trade-off: an append-only log instead of a table at the end, so that a killed run loses at most one outcome.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

import orjson

from features.errors import InputError
from flows.download.temporary_files import remove_strays, temporary

FILE = "outcomes.jsonl"
Result = Literal["fetched", "unchanged", "missing", "refused", "failed"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The outcome of one photo download."""

    item_key: str
    url: str
    result: Result
    """fetched; unchanged since the last download; missing (404, 410); refused by a rule; failed, to be retried."""
    detail: str | None = None
    """The reason, if the photo was not fetched."""
    sha256: str | None = None
    """SHA-256 of the stored photo."""
    name: str | None = None
    """File name of the stored photo: item key and suffix."""
    etag: str | None = None
    last_modified: str | None = None
    asked_at: int = 0
    """Time of the request, in seconds since 1970."""

    @property
    def held(self) -> bool:
        """Whether the photo is stored."""
        return self.sha256 is not None


def read_outcomes(path: Path) -> dict[str, Outcome]:
    """The last outcome of every item; empty if the file does not exist. Ignores a truncated last line.

    Raises:
        InputError: a line other than a truncated last one cannot be parsed.
    """
    if not path.is_file():
        return {}
    found: dict[str, Outcome] = {}
    *lines, last = path.read_bytes().split(b"\n")  # not splitlines: a text may hold U+2028
    for number, line in enumerate([*lines, last] if last else lines, start=1):
        try:
            outcome = Outcome(**orjson.loads(line))
        except (ValueError, TypeError) as error:
            if number > len(lines):
                break
            raise InputError(
                f"line {number} of {path} that is not an outcome", "lines written by flows.ingest",
                "delete that line; its photo is downloaded again",
            ) from error  # fmt: skip
        found[outcome.item_key] = outcome
    return found


def write_outcomes(path: Path, outcomes: Mapping[str, Outcome]) -> None:
    """Rewrites the file with one line per item, sorted by key."""
    written = temporary(path)
    with written.open("w", encoding="utf-8") as stream:
        stream.writelines(_line(outcomes[key]) for key in sorted(outcomes))
        stream.flush()
        os.fsync(stream.fileno())
    written.rename(path)


@contextmanager
def appending(path: Path) -> Iterator[TextIO]:
    """Opens the file for `append`; drops a line that a crash truncated."""
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_strays(path.parent)
    if path.is_file() and not path.read_bytes().endswith(b"\n"):
        write_outcomes(path, read_outcomes(path))
    with path.open("a", encoding="utf-8", buffering=1) as stream:
        yield stream


def append(stream: TextIO, outcome: Outcome) -> None:
    """Appends one outcome; the stream is line-buffered."""
    stream.write(_line(outcome))


def _line(outcome: Outcome) -> str:
    fields = {key: value for key, value in vars(outcome).items() if value is not None}
    if outcome.detail is not None:  # a server's text, which may hold undecodable bytes and escape sequences
        fields["detail"] = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in outcome.detail)
    return orjson.dumps(fields).decode() + "\n"
