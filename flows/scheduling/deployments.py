"""The deployments of `flows.serve` and the process that starts their runs, each in a process of its own.

Requires PREFECT_API_URL of a running server.

Trade-off: Prefect's runner is subclassed so that a signal stops it in its own event loop; Prefect's handler waits for
another loop, to which the runner's client does not belong.
"""

# ruff: noqa: TID253 - this module is the door to Prefect; flows.serve starts it as a process
import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    DeploymentFilter,
    DeploymentFilterId,
    FlowRunFilter,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy, StateType
from prefect.runner import Runner
from prefect.schedules import Cron
from prefect.settings import PREFECT_API_URL, Profile, load_profiles, save_profiles
from prefect.states import Crashed

from flows.download.prefect_flow import ingest
from flows.orchestration import prefect_env
from flows.orchestration.run_messages import write_to_terminal
from flows.retraining.prefect_flow import retrain
from flows.scheduling.schedule import next_due

log = logging.getLogger("vip5")
_AT_ONCE = 2
_OWN_POLL_SECONDS = 2.0


def main(argv: Sequence[str] | None = None) -> int:
    """Serves the deployments until SIGTERM."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.scheduling.deployments", description="What flows.serve starts."
    )
    parser.add_argument("names", metavar="NAME", nargs="+")
    parser.add_argument("--cron", required=True)
    parser.add_argument("--timezone", required=True)
    parser.add_argument("--own", action="store_true", help="the server was started by flows.serve")
    arguments = parser.parse_args(argv)
    write_to_terminal()
    prefect_env.prepare(level="INFO")
    made = deployments(arguments.names, arguments.cron, arguments.timezone)
    poll = _OWN_POLL_SECONDS if arguments.own else None
    with _profile(os.environ[prefect_env.ADDRESS], wanted=arguments.own):
        asyncio.run(_serve(made, poll, _opening(arguments)))
    return 0


def deployments(names: Sequence[str], cron: str, timezone: str = "UTC") -> list[Any]:
    """For each dataset: an on-demand ingest and a scheduled retrain, each limited to one run at a time.

    A retrain that is due while another one of the same dataset runs is cancelled; it is due again by schedule.
    """
    alone = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    made: list[Any] = []
    for name in names:
        parameters = {"name": name}
        made += [
            ingest.to_deployment(f"ingest-{name}", parameters=parameters, concurrency_limit=alone),
            retrain.to_deployment(
                f"retrain-{name}",
                parameters=parameters,
                concurrency_limit=alone,
                schedule=Cron(cron, timezone=timezone),
            ),
        ]
    return made


class _Runner(Runner):
    """Prefect's runner, which a signal stops in its own event loop."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.loop, self.stop_requested = asyncio.get_running_loop(), asyncio.Event()

    def handle_sigterm(self, *_: Any, **__: Any) -> None:
        """The handler that Prefect installs for SIGTERM."""
        self.loop.call_soon_threadsafe(self.stop_requested.set)


async def _serve(made: Sequence[Any], poll: float | None, opening: Sequence[str]) -> None:
    runner = _Runner(pause_on_shutdown=False, limit=_AT_ONCE, query_seconds=poll, prefetch_seconds=1)
    logging.getLogger("prefect.runner.state_proposer").addFilter(_log_cancelled)
    signal.signal(signal.SIGTERM, runner.handle_sigterm)
    ids = [await runner.aadd_deployment(one) for one in made]
    if poll is not None:
        await _end_dead_runs(ids)
    work = asyncio.create_task(runner.start())
    stopping = asyncio.create_task(runner.stop_requested.wait())
    for line in opening:
        log.info("serve: %s", line)
    await asyncio.wait({work, stopping}, return_when=asyncio.FIRST_COMPLETED)
    if not work.done():
        while not runner.started:
            await asyncio.sleep(0.1)
        await runner.astop()
    stopping.cancel()
    await work


def _log_cancelled(record: logging.LogRecord) -> bool:
    """Logs a run that Prefect cancels before it starts, which is not logged otherwise."""
    if isinstance(record.args, tuple) and len(record.args) == 2 and record.args[1] == StateType.CANCELLED.value:
        run = str(record.args[0]).replace("-", "")[-12:]
        log.info("serve: run %s was cancelled: another run of the same flow and dataset is in progress", run)
    return True


async def _end_dead_runs(ids: Sequence[UUID]) -> None:
    """Marks runs that the server considers active as crashed; they died with the previous `flows.serve`.

    A killed run does not report its end: its slot would stay occupied until its lease expires, and its page would show
    "running" forever.
    """
    under_way = FlowRunFilterStateType(any_=[StateType.PENDING, StateType.RUNNING, StateType.CANCELLING])
    async with get_client() as client:
        runs = await client.read_flow_runs(
            flow_run_filter=FlowRunFilter(state=FlowRunFilterState(type=under_way)),
            deployment_filter=DeploymentFilter(id=DeploymentFilterId(any_=list(ids))),
        )
        for run in runs:
            await client.set_flow_run_state(run.id, Crashed(message="flows.serve was killed during it"), force=True)


@contextmanager
def _profile(address: str, *, wanted: bool) -> Iterator[None]:
    """Writes the server's URL to this folder's Prefect profiles, so that the `prefect` command finds the server."""
    if not wanted:
        yield
        return
    before = load_profiles().active_name
    _activate(prefect_env.SERVED, address)
    try:
        yield
    finally:
        _activate(None if before == prefect_env.SERVED else before, None)


def _activate(name: str | None, address: str | None) -> None:
    """Activates profile `name`; adds the profile of the server if `address` is given, and deletes it otherwise."""
    found = load_profiles()
    if prefect_env.SERVED in found.names:
        found.remove_profile(prefect_env.SERVED)
    if address:
        found.add_profile(Profile(name=prefect_env.SERVED, settings={PREFECT_API_URL: address}))
    found.set_active(name or "ephemeral", check=False)
    save_profiles(found)


def _opening(arguments: argparse.Namespace) -> list[str]:
    """The first lines of output: deployments, schedule, the page's URL and the command that triggers a run."""
    due = next_due(arguments.cron, arguments.timezone)
    when = f'by "{arguments.cron}" ({arguments.timezone}), next on {due:%A, %d %B %Y, %H:%M}'
    lines = []
    for name in arguments.names:
        lines += [f"retrain-{name}: {when}", f"ingest-{name}: when it is triggered"]
    page = os.environ[prefect_env.ADDRESS].removesuffix("/").removesuffix("/api")
    first = arguments.names[0]
    trigger = f".venv/bin/python -m flows.trigger retrain {first}"
    return [*lines, f"trigger a run: {trigger}", f"ready; the page is {page}; Ctrl-C ends it"]


if __name__ == "__main__":
    sys.exit(main())
