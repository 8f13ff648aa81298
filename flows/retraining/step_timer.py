"""Times the steps of a retrain and says in lines how it went.

Enters: steps as they run, and a result. Leaves: lines of text.
"""

import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from flows.execution.run_log import read_lines, summary
from flows.retraining.config import Run
from flows.retraining.steps import Result, stage_log

log = logging.getLogger("vip5")


def ending(result: Result, verdict: Sequence[str]) -> list[str]:
    """How a run ended, in lines: what was decided and why, and the verdict on the model."""
    return [f"{result.outcome} ({result.reason})", *verdict]


def verdict_lines(run: Run) -> list[str]:
    """What the last evaluation says of the model in words; none where it says nothing."""
    path = run.places.metrics("evaluate.json")
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("verdict")
    except (OSError, ValueError):
        return []
    return [str(line) for line in found] if isinstance(found, list) else []


def timed(steps: list[dict[str, Any]], who: str = "retrain") -> Callable[..., Any]:
    """A step runner that notes name, seconds and state of each step in `steps`, and tells that it begins."""

    def step(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        log.info("%s: %s", who, name)
        started, state = time.monotonic(), "failed"
        try:
            found = function(*arguments)
            state = "done"
            return found
        finally:
            steps.append({"step": name, "seconds": time.monotonic() - started, "state": state})

    return step


def table(run: Run, steps: Sequence[dict[str, Any]]) -> list[str]:
    """The lines of the run's summary table."""
    return summary(steps, read_lines(stage_log(run)))
