"""The Prefect flows of an ingest of files and of photos: download, plan, copy, verify, publish.

Tasks hold no logic; they call the functions of `flows.download.dump_files` and `flows.download.sources`, which tests
call without Prefect.
"""

# ruff: noqa: TID253 - this module is the door to Prefect; flows.ingest imports it late
from collections import Counter
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State, TaskRun
from prefect.context import FlowRunContext
from prefect.logging import get_run_logger
from prefect.task_runners import ThreadPoolTaskRunner

from features.runtime.profiles import dump_params
from flows.download import dump_files, ingest_steps, sources
from flows.execution.workspace_lock import dump_lock
from flows.orchestration.run_messages import report_run

_WORKERS: Any = ThreadPoolTaskRunner(max_workers=2)


def _worth_retrying(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    return isinstance(state.result(raise_on_failure=False), OSError)


@task(name="download", task_run_name="download {name}")
def download(name: str, params: dict[str, Any]) -> dict[str, str]:
    """Downloads the files, with retries, resumption and verification."""
    return sources.fetch_files(name, params)


@task(name="photos", task_run_name="photos {name}")
def photos(name: str, params: dict[str, Any]) -> Counter[str]:
    """Downloads the photos of the items; returns the number of photos by outcome."""
    return sources.fetch_photos(name, params)


@task(name="plan", task_run_name="plan {name}")
def plan(name: str, source: Path | None, params: dict[str, Any]) -> tuple[dump_files.Transfer, ...]:
    """Plans the transfers; also deletes the staging folder of an interrupted ingest."""
    dump_files.discard_staging(name)
    return sources.plan_fetched(name, params) if source is None else dump_files.plan(name, source, params)


@task(
    name="copy",
    task_run_name="copy {transfer.name}",
    retries=2,
    retry_delay_seconds=1,
    retry_condition_fn=_worth_retrying,
)
def copy(transfer: dump_files.Transfer, name: str) -> dump_files.Arrival:
    """Copies one file into the staging folder."""
    return dump_files.fetch(transfer, name)


@task(name="verify", task_run_name="verify {transfer.name}")
def verify(transfer: dump_files.Transfer, arrival: dump_files.Arrival) -> dump_files.Arrival:
    """Compares one file with its source."""
    dump_files.verify(transfer, arrival)
    return arrival


@task(name="publish", task_run_name="publish {name}")
def publish(name: str, arrivals: list[dump_files.Arrival]) -> list[str]:
    """Renames all files to their destinations and writes the manifest last."""
    return dump_files.publish(name, arrivals)


@flow(name="ingest", flow_run_name="ingest {name}", task_runner=_WORKERS)
def ingest(
    name: str, source: Path | None = None, params: dict[str, Any] | None = None
) -> tuple[list[str], list[dump_files.Entry]]:
    """Ingests dump `name` into `data/raw/<name>`; returns the names that changed and the manifest.

    Args:
        name: an entry of `datasets` or `tokenizers`.
        source: the folder that holds its files; None downloads them from `datasets.<name>.urls`.
        params: the merged parameters; None reads `params.yaml` and the profile of that name.
    """
    context = FlowRunContext.get()
    assert context is not None  # noqa: S101 - inside a flow there is one
    page = get_run_logger().info
    with report_run(f"ingest-{name}", context.flow_run, page, stopped="the dump is unchanged") as terminal:
        params = dump_params(name) if params is None else params
        if ingest_steps.is_synthetic(name, source, params):
            terminal.lines = [ingest_steps.SYNTHETIC_MESSAGE]
            return [], []
        ingest_steps.check(name, source, params)
        with dump_lock(name):
            if source is None:
                download(name, params)
            changed, entries = _bring(name, source, params)
        terminal.lines = [ingest_steps.summary_line(name, changed, entries)]
        terminal.page(terminal.lines[0])
        return changed, entries


@flow(name="ingest photos", flow_run_name="ingest photos {name}", task_runner=_WORKERS)
def ingest_photos(name: str, params: dict[str, Any] | None = None) -> tuple[list[str], list[dump_files.Entry]]:
    """Downloads the photos of the items into the dump; returns the names that changed and the manifest."""
    params = dump_params(name) if params is None else params
    with dump_lock(name):
        counts = photos(name, params)
        found = _bring(name, None, params)
    create_table_artifact(
        table=[{"outcome": outcome, "photos": number} for outcome, number in sorted(counts.items())],
        key=f"photos-{name.replace('_', '-')}", description=f"Photo downloads of {name}, by outcome",
    )  # fmt: skip
    return found


def _bring(name: str, source: Path | None, params: dict[str, Any]) -> tuple[list[str], list[dump_files.Entry]]:
    transfers = plan(name, source, params)
    copies = [copy.submit(transfer, name) for transfer in transfers]
    checked = [verify.submit(transfer, arrival.result()) for transfer, arrival in zip(transfers, copies, strict=True)]
    changed = publish(name, [arrival.result() for arrival in checked])
    return changed, dump_files.read_manifest(dump_files.raw_folder(name))
