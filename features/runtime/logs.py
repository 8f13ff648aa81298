"""Log formatting for people or machines, and one run-log record per stage.

Writes to standard error: plain lines, or JSON lines if VIP5_LOG=json. With VIP5_RUN_LOG=FILE, appends one JSON line
per stage to FILE.
Trade-off: environment variables instead of flags, so that the settings reach every stage under `dvc repro` without
becoming parameters that DVC tracks.
"""

import json
import logging
import os
import resource
from datetime import UTC, datetime
from typing import Any

FIELDS = ("run", "stage", "rows", "seconds", "peak_memory_bytes", "exit_code")


class JsonLines(logging.Formatter):
    """Formats each record as a JSON object: time, level, message, and the attributes in `FIELDS` that it has."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        if run := os.environ.get("VIP5_RUN"):
            line["run"] = run
        line |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["error"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def formatter() -> logging.Formatter:
    """A plain formatter, or a JSON formatter if VIP5_LOG is json."""
    return JsonLines() if os.environ.get("VIP5_LOG", "").lower() == "json" else logging.Formatter("%(message)s")


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
