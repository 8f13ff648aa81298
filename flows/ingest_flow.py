"""The Prefect flow of an ingest: plan, copy each file, verify each, publish.

Enters: a dump's name, a folder and the merged parameters. Leaves: what changed and the manifest's entries.
Trade-off: tasks hold no logic, they call the functions of `flows.dumps`, which tests call without Prefect.
"""

# ruff: noqa: TID253 - this module is the door to Prefect; flows.ingest imports it late
from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.client.schemas.objects import State, TaskRun
from prefect.task_runners import ThreadPoolTaskRunner

from flows import dumps

_WORKERS: Any = ThreadPoolTaskRunner(max_workers=2)


def _worth_retrying(_task: Any, _run: TaskRun, state: State[Any]) -> bool:
    return isinstance(state.result(raise_on_failure=False), OSError)


@task(name="plan", task_run_name="plan {name}")
def plan(name: str, source: Path, params: dict[str, Any]) -> tuple[dumps.Transfer, ...]:
    """The files to bring; also removes what an interrupted ingest left behind."""
    dumps.discard_staging(name)
    return dumps.plan(name, source, params)


@task(
    name="copy",
    task_run_name="copy {transfer.name}",
    retries=2,
    retry_delay_seconds=1,
    retry_condition_fn=_worth_retrying,
)
def copy(transfer: dumps.Transfer, name: str) -> dumps.Arrival:
    """Brings one file into the staging folder."""
    return dumps.fetch(transfer, name)


@task(name="verify", task_run_name="verify {transfer.name}")
def verify(transfer: dumps.Transfer, arrival: dumps.Arrival) -> dumps.Arrival:
    """Compares one file with its source."""
    dumps.verify(transfer, arrival)
    return arrival


@task(name="publish", task_run_name="publish {name}")
def publish(name: str, arrivals: list[dumps.Arrival]) -> list[str]:
    """Renames everything into its place, the manifest last."""
    return dumps.publish(name, arrivals)


@flow(name="ingest", flow_run_name="ingest {name}", task_runner=_WORKERS)
def ingest(name: str, source: Path, params: dict[str, Any]) -> tuple[list[str], list[dumps.Entry]]:
    """Brings dump `name` from `source` into `data/raw/<name>`; returns the names that changed and the manifest."""
    transfers = plan(name, source, params)
    copies = [copy.submit(transfer, name) for transfer in transfers]
    checked = [verify.submit(transfer, arrival.result()) for transfer, arrival in zip(transfers, copies, strict=True)]
    changed = publish(name, [arrival.result() for arrival in checked])
    return changed, dumps.read_manifest(dumps.raw_folder(name))
