"""The history of runs in `metrics/history.jsonl`, one line per run, and the summary table of a run.

The history is append-only and independent of Prefect's database.
"""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


def history_path(root: Path = Path()) -> Path:
    """The path of the history: `metrics/history.jsonl`."""
    return root / "metrics" / "history.jsonl"


def append_history(root: Path, line: Mapping[str, Any]) -> None:
    """Appends one line in one system call and flushes it to disk."""
    path = history_path(root)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(handle, (json.dumps(line) + "\n").encode())
        os.fsync(handle)
    finally:
        os.close(handle)


def read_history(root: Path = Path(), name: str | None = None) -> list[dict[str, Any]]:
    """The runs of one dataset, or of all, oldest first; ignores a truncated line."""
    return [line for line in read_lines(history_path(root)) if name is None or line.get("name") == name]


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Parses the JSON lines of an append-only file; ignores invalid lines, and returns [] without a file."""
    if not path.is_file():
        return []
    found = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def summary(steps: Sequence[Mapping[str, Any]], stages: Sequence[Mapping[str, Any]]) -> list[str]:
    """The summary table of a run: every step and stage with rows, seconds and peak memory.

    Example:
        `summary([{"step": "ingest", "seconds": 1.5, "state": "done"}], [])` returns two lines, the heading and
        `ingest  done      -      1.5            -`.
    """
    rows = [["step", "state", "rows", "seconds", "peak memory"]]
    for step in steps:
        rows.append([step["step"], step["state"], "-", f"{step['seconds']:.1f}", "-"])
        if step["step"] == "reproduce":
            rows += [_stage_row(stage) for stage in stages]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    return [
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _stage_row(stage: Mapping[str, Any]) -> list[str]:
    state = "done" if stage.get("exit_code") == 0 else f"exit code {stage.get('exit_code')}"
    rows = "-" if stage.get("rows") is None else f"{stage['rows']:,}"
    return [
        f"  {stage['stage']}",
        state,
        rows,
        f"{stage['seconds']:.1f}",
        f"{stage['peak_memory_bytes'] / 2**30:.2f} GB",
    ]
