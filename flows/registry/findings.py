"""Formats the gate's checks and the drift report as text lines and table rows, and writes the verdict to a file.

`modeling.recommend` reads that file to describe the last trained model.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from features.store.durable import write_text
from flows.registry.quality_gate import Verdict
from modeling.serving import promoted_model


def write_verdict(name: str, root: Path, line: Mapping[str, Any], verdict: Verdict) -> None:
    """Writes `metrics/<name>/gate.json`: the model's digest, its history entry and every check."""
    path = promoted_model.verdict_path(name, root)
    path.parent.mkdir(parents=True, exist_ok=True)
    checks = [asdict(check) for check in verdict.checks]
    whole = {"model": promoted_model.model_digest(name, root), **line, "checks": checks}
    write_text(path, json.dumps(whole, indent=1) + "\n")


def gate_rows(verdict: Verdict) -> list[dict[str, str]]:
    """Returns one row per check: check, holds, found, needed."""
    return [
        {"check": check.name, "holds": _holds(check.passed, allowed=check.allowed), "found": check.found,
         "needed": check.needed}
        for check in verdict.checks
    ]  # fmt: skip


def _holds(passed: bool, *, allowed: bool) -> str:
    return "allowed" if allowed else "yes" if passed else "NO"


def gate_lines(verdict: Verdict) -> list[str]:
    """Formats the checks as lines below a heading; if the model lost to baselines, the last line says how to allow it.

    Example: ["gate: not promoted", "  NO   A-3 ndcg@10 against item_knn  loses by 0.1782 [0.1297, 0.2267] ..."]
    """
    labels = {"promote": "promoted", "keep": "not promoted", "refuse": "refused"}
    cells = [[row["holds"], row["check"], row["found"]] for row in gate_rows(verdict)]
    lost = [check.baseline for check in verdict.checks if check.baseline and not check.passed]
    hint = f"  to promote it all the same, write in params.yaml: retrain.gate.may_lose_to: [{', '.join(lost)}]"
    return [f"gate: {labels[verdict.decision]}", *_columns(cells), *([hint] if lost else [])]


def drift_rows(drift: Mapping[str, Any]) -> list[dict[str, str]]:
    """Returns one row per comparison (what, verdict, found), then the tables that could not be compared."""
    rows = [{key: row[key] for key in ("what", "verdict", "found")} for row in drift["judged"]]
    absent = "the champion has no such table, or one of an older version"
    return rows + [{"what": table, "verdict": "not compared", "found": absent} for table in drift["not_compared"]]


def drift_lines(drift: Mapping[str, Any], champion: str) -> list[str]:
    """Formats the comparisons as lines below a heading with the worst verdict.

    Example: ["data since champion 5e8c43498de2f07e: stable", "  stable  users  0 came, 0 went, 160 now"]
    """
    cells = [[row["verdict"], row["what"], row["found"]] for row in drift_rows(drift)]
    return [f"data since champion {champion}: {drift['verdict']}", *_columns(cells)]


def _columns(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
