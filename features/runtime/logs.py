"""Log lines for people or for machines, and one line on record for every stage that ran.

Enters: log records; what a stage did. Leaves: plain lines, or with VIP5_LOG=json one JSON object a line, on standard
error; with VIP5_RUN_LOG=FILE a JSON line a stage appended to FILE.
Trade-off: environment variables instead of flags, so that they reach every stage below `dvc repro` without a parameter
that DVC would take for a change.
"""

import json
import logging
import os
import resource
from datetime import UTC, datetime
from typing import Any

FIELDS = ("run", "stage", "rows", "seconds", "peak_memory_bytes", "exit_code")


class JsonLines(logging.Formatter):
    """One JSON object a record: time, level, message, and what the record carries of `FIELDS`."""

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
    """Plain lines, or JSON where VIP5_LOG says so."""
    return JsonLines() if os.environ.get("VIP5_LOG", "").lower() == "json" else logging.Formatter("%(message)s")


def stage_record(stage: str, *, rows: int | None, seconds: float, exit_code: int) -> dict[str, Any]:
    """What is on record of one stage, appended to VIP5_RUN_LOG where that is set."""
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
