"""What became of every photo that was asked for: one JSON line each, written as it happens.

Enters: outcomes, one at a time. Leaves: `outcomes.jsonl`, where the last line about an item counts.
Trade-off: a line a photo instead of a table at the end, so that a killed run loses at most the line being written.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

import orjson

from features.errors import InputError

FILE = "outcomes.jsonl"
Result = Literal["fetched", "unchanged", "missing", "refused", "failed"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One photo's outcome."""

    item_key: str
    url: str
    result: Result
    """fetched; unchanged since it was fetched; missing there; refused by a rule of ours; failed for now."""
    detail: str | None = None
    """Why, where it is not fetched."""
    sha256: str | None = None
    """Of the bytes held."""
    name: str | None = None
    """File name of the photo held: item key and suffix."""
    etag: str | None = None
    last_modified: str | None = None
    asked_at: int = 0
    """Seconds since 1970."""

    @property
    def held(self) -> bool:
        """Whether the photo's bytes are here."""
        return self.sha256 is not None


def read_outcomes(path: Path) -> dict[str, Outcome]:
    """The last outcome of every item; none where there is no file. A last line that was cut off is left out.

    Raises:
        InputError: another line cannot be read.
    """
    if not path.is_file():
        return {}
    found: dict[str, Outcome] = {}
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True)
    for number, line in enumerate(lines, start=1):
        try:
            outcome = Outcome(**orjson.loads(line))
        except (ValueError, TypeError) as error:
            if number == len(lines) and not line.endswith("\n"):
                break
            raise InputError(
                f"line {number} of {path} that is not an outcome", "lines as flows.ingest writes them",
                "remove that line; its photo is fetched again",
            ) from error  # fmt: skip
        found[outcome.item_key] = outcome
    return found


def write_outcomes(path: Path, outcomes: Mapping[str, Outcome]) -> None:
    """Rewrites the file with one line an item, in the order of the keys."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("w", encoding="utf-8") as stream:
        stream.writelines(_line(outcomes[key]) for key in sorted(outcomes))
    temporary.rename(path)


@contextmanager
def appending(path: Path) -> Iterator[TextIO]:
    """The file, open for `append`; its readable lines are kept, a line that a crash cut off is dropped."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_file() and not path.read_bytes().endswith(b"\n"):
        write_outcomes(path, read_outcomes(path))
    with path.open("a", encoding="utf-8", buffering=1) as stream:
        yield stream


def append(stream: TextIO, outcome: Outcome) -> None:
    """Writes one line and hands it to the system."""
    stream.write(_line(outcome))


def _line(outcome: Outcome) -> str:
    return orjson.dumps({key: value for key, value in vars(outcome).items() if value is not None}).decode() + "\n"
