"""The Prefect flow of a retrain: every step runs as a task, and the results become artifacts.

Publishes the verdict, the gate's checks, a plot, a drift report and links as Prefect artifacts, and logs the start and
end of a served run in the terminal of `flows.serve`.

Trade-off: each plain function is wrapped in a task when it is called, so that `flows.retraining.steps` alone defines
the order of the steps.
"""

# ruff: noqa: TID253 - this module is the door to Prefect; flows.retrain imports it late
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import (
    create_image_artifact,
    create_link_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger

from features.errors import GateError
from flows.execution.run_log import read_history
from flows.execution.workspace_lock import workspace_lock
from flows.orchestration.lost_server import kept, publish_artifact
from flows.orchestration.run_messages import RunReport, report_run
from flows.registry.findings import drift_rows, gate_rows
from flows.registry.interval_plot import interval_plot
from flows.retraining.config import Run, prepare
from flows.retraining.step_timer import result_lines, table, timed_steps, verdict_lines
from flows.retraining.steps import Result
from flows.retraining.steps import retrain as run_steps


@flow(name="retrain", flow_run_name="retrain {name}")
@kept
def retrain(name: str, wait_seconds: float | None = None) -> Result:
    """Retrains dataset `name` and returns the result.

    Args:
        name: the dataset of `params.yaml`, or a profile.
        wait_seconds: seconds to wait for a run in progress; None uses `retrain.wait_seconds` of `params.yaml`.
    """
    context = FlowRunContext.get()
    assert context is not None  # noqa: S101 - inside a flow there is one
    assert context.flow_run is not None  # noqa: S101
    page = get_run_logger().info
    with report_run(f"retrain-{name}", context.flow_run, page, stopped="the champion stays") as terminal:
        run = prepare(name, run_id=context.flow_run.id.hex[-12:], report=terminal.log)
        if wait_seconds is not None:
            run = replace(run, config=replace(run.config, wait_seconds=wait_seconds))
        if overtaken(run, context.flow_run.expected_start_time):
            reason = "a run that began after this one was due has ended"
            result = Result(decision="missed", reason=reason, champion=None)
            terminal.lines = result_lines(result, [])
            return result
        try:
            result = _retrain(run, terminal)
        except GateError as error:
            terminal.lines = verdict_lines(run)
            publish_summary(run, ["refused", str(error)], terminal.lines)
            raise
        verdict = verdict_lines(run)
        publish_result(run, result, verdict)
        terminal.lines = result_lines(result, verdict)
        return result


def _retrain(run: Run, terminal: RunReport) -> Result:
    """Runs every step as a task under the workspace lock; publishes the table of steps even after a failure."""
    steps: list[dict[str, Any]] = []
    with workspace_lock(run.run_id, run.name, run.root, wait_seconds=run.config.wait_seconds):
        try:
            return run_steps(run, _as_tasks(timed_steps(steps, terminal.who if terminal.served else "retrain")))
        finally:
            lines = table(run, steps)
            for line in lines:
                terminal.log_detail(line)
            publish_artifact(
                create_markdown_artifact,
                "\n".join(["```", *lines, "```"]),
                key=_key(run, "run"),
                description=f"Steps of {run.run_id}",
            )


def _as_tasks(step: Callable[..., Any]) -> Callable[..., Any]:
    def run(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        made = task(name=name, task_run_name=name, cache_policy=NO_CACHE, persist_result=False)(
            lambda: step(name, function, *arguments)
        )
        return made()

    return run


def overtaken(run: Run, due: datetime | None) -> bool:
    """Whether a run of the same dataset that started after `due` has already completed.

    A scheduler that was down for days starts every missed run; only the first of them does the work.
    """
    if due is None:
        return False
    ended = [line for line in read_history(run.root, run.name) if line["decision"] != "failed"]
    return any(datetime.fromisoformat(line["started"]) > due for line in ended)


def publish_summary(run: Run, summary: Sequence[str], verdict: Sequence[str]) -> None:
    """Publishes the verdict on the model and the decision as a Markdown artifact."""
    first, *rest = summary
    lines = [*verdict, f"## {run.name}: {first}", *rest]
    publish_artifact(
        create_markdown_artifact, "\n\n".join(lines), key=_key(run, "result"), description=f"Retrain of {run.name}"
    )


def publish_result(run: Run, result: Result, verdict: Sequence[str]) -> None:
    """Publishes the result as artifacts: decision, gate, plot, drift and links to the pages."""
    champion = result.champion.digest if result.champion else "none"
    publish_summary(run, [result.outcome, result.reason, f"Champion: `{champion}`"], verdict)
    if result.verdict is not None:
        publish_artifact(
            create_table_artifact, gate_rows(result.verdict), key=_key(run, "gate"), description="What the gate found"
        )
    picture = interval_plot(run.places, run.config.gate)
    if picture is not None:
        publish_artifact(
            create_image_artifact, image_url=picture, key=_key(run, "plot"), description="VIP5 beside the baselines"
        )
    if result.drift:
        since = f"The data since champion {result.drift['champion']}: {result.drift['verdict']}"
        publish_artifact(create_table_artifact, drift_rows(result.drift), key=_key(run, "drift"), description=since)
    for page in ("model.html", "data.html"):
        path = run.places.report(page)
        if path.is_file():
            publish_artifact(
                create_link_artifact, Path(path).absolute().as_uri(), link_text=page, key=_key(run, page.split(".")[0])
            )


def _key(run: Run, what: str) -> str:
    return f"{run.name}-{what}".replace("_", "-").lower()
