"""The Prefect flows of an ingest: download, plan, copy each file, verify each, publish; and the same for photos.

Enters: a dump's name, a folder or the addresses in `params.yaml`. Leaves: what changed and the manifest's entries.
Trade-off: tasks hold no logic, they call the functions of `flows.download.dump_files` and `flows.download.sources`,
which tests call without Prefect.
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
from flows.orchestration.run_messages import told

_WORKERS: Any = ThreadPoolTaskRunner(max_workers=2)


def _worth_retrying(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    return isinstance(state.result(raise_on_failure=False), OSError)


@task(name="download", task_run_name="download {name}")
def download(name: str, params: dict[str, Any]) -> dict[str, str]:
    """The files by address; retries, resumes and checks inside."""
    return sources.fetch_files(name, params)


@task(name="photos", task_run_name="photos {name}")
def photos(name: str, params: dict[str, Any]) -> Counter[str]:
    """The photos by the items' addresses; returns how many had which outcome."""
    return sources.fetch_photos(name, params)


@task(name="plan", task_run_name="plan {name}")
def plan(name: str, source: Path | None, params: dict[str, Any]) -> tuple[dump_files.Transfer, ...]:
    """The files to bring; also removes what an interrupted ingest left behind."""
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
    """Brings one file into the staging folder."""
    return dump_files.fetch(transfer, name)


@task(name="verify", task_run_name="verify {transfer.name}")
def verify(transfer: dump_files.Transfer, arrival: dump_files.Arrival) -> dump_files.Arrival:
    """Compares one file with its source."""
    dump_files.verify(transfer, arrival)
    return arrival


@task(name="publish", task_run_name="publish {name}")
def publish(name: str, arrivals: list[dump_files.Arrival]) -> list[str]:
    """Renames everything into its place, the manifest last."""
    return dump_files.publish(name, arrivals)


@flow(name="ingest", flow_run_name="ingest {name}", task_runner=_WORKERS)
def ingest(
    name: str, source: Path | None = None, params: dict[str, Any] | None = None
) -> tuple[list[str], list[dump_files.Entry]]:
    """Brings dump `name` into `data/raw/<name>`; returns the names that changed and the manifest.

    Args:
        name: an entry of `datasets` or `tokenizers`.
        source: the folder that holds its files; None fetches them by their addresses.
        params: the merged parameters; None reads params.yaml and the profile of that name.
    """
    context = FlowRunContext.get()
    assert context is not None  # noqa: S101 - inside a flow there is one
    page = get_run_logger().info
    with told(f"ingest-{name}", context.flow_run, page, stopped="the dump is as it was before") as terminal:
        params = dump_params(name) if params is None else params
        if ingest_steps.is_made_up(name, source, params):
            terminal.lines = [ingest_steps.MADE_UP_LINE]
            return [], []
        ingest_steps.check(name, source, params)
        if source is None:
            download(name, params)
        changed, entries = _bring(name, source, params)
        terminal.lines = [ingest_steps.told(name, changed, entries)]
        terminal.page(terminal.lines[0])
        return changed, entries


@flow(name="ingest photos", flow_run_name="ingest photos {name}", task_runner=_WORKERS)
def ingest_photos(name: str, params: dict[str, Any] | None = None) -> tuple[list[str], list[dump_files.Entry]]:
    """Brings the photos of the items of `name` into its dump; returns the names that changed and the manifest."""
    params = dump_params(name) if params is None else params
    counts = photos(name, params)
    create_table_artifact(
        table=[{"outcome": outcome, "photos": number} for outcome, number in sorted(counts.items())],
        key=f"photos-{name.replace('_', '-')}", description=f"What became of the photos of {name}",
    )  # fmt: skip
    return _bring(name, None, params)


def _bring(name: str, source: Path | None, params: dict[str, Any]) -> tuple[list[str], list[dump_files.Entry]]:
    transfers = plan(name, source, params)
    copies = [copy.submit(transfer, name) for transfer in transfers]
    checked = [verify.submit(transfer, arrival.result()) for transfer, arrival in zip(transfers, copies, strict=True)]
    changed = publish(name, [arrival.result() for arrival in checked])
    return changed, dump_files.read_manifest(dump_files.raw_folder(name))
