"""Log formatting for people or machines, and one run-log record per stage.

Writes to standard error: plain lines, or JSON lines if VIP5_LOG=json. With VIP5_RUN_LOG=FILE, appends one JSON line
per stage to FILE.
Trade-off: environment variables instead of flags, so that the settings reach every stage under `dvc repro` without
becoming parameters that DVC tracks.
"""

import json
import logging
import os
import re
import resource
from datetime import UTC, datetime
from typing import Any

FIELDS = ("run", "stage", "rows", "seconds", "peak_memory_bytes", "exit_code")


_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
_CREDENTIALS = re.compile(r"(?<=://)[^/?#\s@]{1,500}@")


def shown(text: str) -> str:
    r"""`text` as a log may show it: control characters spelled out, user names and passwords in URLs hidden.

    Line breaks and tabs stay.

    Example:
        >>> shown("http://me:secret@host/ \x1b[2J")
        'http://***@host/ \\x1b[2J'
    """
    return _CREDENTIALS.sub("***@", _CONTROLS.sub(lambda found: ascii(found[0])[1:-1], text))


class PlainLines(logging.Formatter):
    """Formats each record as its message."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as text that a terminal shows as it is."""
        return shown(super().format(record))


class JsonLines(logging.Formatter):
    """Formats each record as a JSON object: time, level, message, and the attributes in `FIELDS` that it has."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": shown(record.getMessage()),
        }
        if run := os.environ.get("VIP5_RUN"):
            line["run"] = run
        line |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["error"] = shown(self.formatException(record.exc_info))
        return json.dumps(line, ensure_ascii=False)


def formatter() -> logging.Formatter:
    """A plain formatter, or a JSON formatter if VIP5_LOG is json."""
    return JsonLines() if os.environ.get("VIP5_LOG", "").lower() == "json" else PlainLines("%(message)s")


def stage_record(stage: str, *, rows: int | None, seconds: float, exit_code: int) -> dict[str, Any]:
    """The run-log record of one stage, also appended to the file VIP5_RUN_LOG if that is set."""
    used = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    record: dict[str, Any] = {
        "stage": stage, "rows": rows, "seconds": round(seconds, 3), "peak_memory_bytes": used * 1024,
        "exit_code": exit_code,
    }  # fmt: skip
    if path := os.environ.get("VIP5_RUN_LOG"):
        line = {"run": os.environ.get("VIP5_RUN"), **record}
        with open(path, "a", encoding="utf-8") as stream:  # noqa: PTH123 - a name from the environment, not a place
            stream.write(json.dumps(line) + "\n")
    return record
