"""Times the steps of a retrain and formats its result as text lines."""

import json
import logging
import time
from collections.abc import Callable, Sequence
from typing import Any

from flows.execution.run_log import read_lines, summary
from flows.retraining.config import Run
from flows.retraining.steps import Result, stage_log

log = logging.getLogger("vip5")


def result_lines(result: Result, verdict: Sequence[str]) -> list[str]:
    """The decision, its reason and the verdict on the model, as lines."""
    return [f"{result.outcome} ({result.reason})", *verdict]


def verdict_lines(run: Run) -> list[str]:
    """The verdict of the last evaluation; empty if `evaluate.json` has none."""
    path = run.places.metrics("evaluate.json")
    try:
        found = json.loads(path.read_text(encoding="utf-8")).get("verdict")
    except (OSError, ValueError):
        return []
    return [str(line) for line in found] if isinstance(found, list) else []


def timed_steps(steps: list[dict[str, Any]], who: str = "retrain") -> Callable[..., Any]:
    """Returns a step runner that logs each step's start and appends its name, seconds and state to `steps`."""

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
    """The run's summary table, as lines."""
    return summary(steps, read_lines(stage_log(run)))
