"""`python -m flows.serve --cron "0 3 * * 1"`: ingest and retrain as Prefect deployments, run by this process.

Enters: data sets and a schedule. Leaves: runs, for as long as it runs.
Trade-off: one process on one machine, with a server of its own where none is configured; `prefect.yaml` is the same
for a work pool.
"""

import argparse
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from features.errors import BusyError, ParamsError, VIP5Error
from features.params import load_yaml
from features.stage import configure_logging
from flows.ingest import quiet_prefect
from flows.retrain import answers

log = logging.getLogger("vip5")


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until interrupted; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.serve", description=(__doc__ or "").partition(": ")[2])
    parser.add_argument("names", metavar="NAME", nargs="*", help="datasets (default: that of params.yaml)")
    parser.add_argument("--cron", required=True, metavar="CRON", help='when to retrain, such as "0 3 * * 1"')
    parser.add_argument("--timezone", default="UTC", help="of the schedule (default: %(default)s)")
    parser.add_argument("--port", type=int, default=4200, help="of the server that is started where none is configured")
    parser.add_argument(
        "--patience", type=float, default=300, metavar="SECONDS",
        help="how long a configured server may be silent at the start (default: %(default)s)",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    configure_logging()
    quiet_prefect(level="INFO")
    try:
        check_cron(arguments.cron)
        names = arguments.names or [load_yaml(Path("params.yaml"))["dataset"]]
        with a_server(arguments.port, arguments.patience):
            _serve(deployments(names, arguments.cron, arguments.timezone))
    except VIP5Error as error:
        log.error("serve: %s", error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    return 0


def check_cron(cron: str) -> None:
    """Raises ParamsError unless Prefect can read the schedule."""
    from prefect.client.schemas.schedules import CronSchedule

    try:
        CronSchedule(cron=cron)
    except ValueError as error:
        raise ParamsError(f"schedule {cron!r}", "five fields of cron", 'write it as "0 3 * * 1"') from error


def deployments(names: Sequence[str], cron: str, timezone: str = "UTC") -> list[Any]:
    """Of every data set an ingest, run on demand, and a retrain on schedule, of which one runs at a time.

    A retrain that is due while another of the same data set runs is cancelled at once: the schedule comes again.
    """
    from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
    from prefect.schedules import Cron

    from flows.ingest_flow import ingest
    from flows.retrain_flow import retrain
    from flows.retrain_run import prepare

    alone = ConcurrencyLimitConfig(limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW)
    made: list[Any] = []
    for name in names:
        prepare(name, run_id="check")  # tells a wrong name or parameter now, not at three in the morning
        told = {"name": name}
        made += [
            ingest.to_deployment(f"ingest-{name}", parameters=told, concurrency_limit=alone),
            retrain.to_deployment(
                f"retrain-{name}", parameters=told, concurrency_limit=alone, schedule=Cron(cron, timezone=timezone)
            ),
        ]
    return made


def _serve(made: Sequence[Any]) -> None:
    from prefect import serve

    log.info("serve: %s; the page is %s", ", ".join(one.name for one in made), _page())
    serve(*made, pause_on_shutdown=False, print_starting_message=False, limit=2)


def _page() -> str:
    return os.environ["PREFECT_API_URL"].removesuffix("/api")


@contextmanager
def a_server(port: int, patience: float) -> Iterator[None]:
    """A Prefect server: the configured one once it answers, else one on this machine that ends with the block.

    Raises:
        BusyError: it did not answer in time; a supervisor then starts this process again.
    """
    address = os.environ.get("PREFECT_API_URL")
    if address:
        wait_for(address, patience)
        yield
        return
    address = f"http://127.0.0.1:{port}/api"
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    child = subprocess.Popen(  # noqa: S603 - our own words
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env=os.environ | {"PREFECT_SERVER_UI_API_URL": address},  # else the page asks port 4200 whatever --port says
    )
    os.environ["PREFECT_API_URL"] = address
    try:
        wait_for(address, patience)
        yield
    finally:
        del os.environ["PREFECT_API_URL"]
        child.terminate()
        child.wait(30)


def wait_for(address: str, patience: float) -> None:
    """Returns when the server answers; tells once that it is waiting."""
    deadline, told = time.monotonic() + patience, False
    while not answers(address):
        if time.monotonic() > deadline:
            raise BusyError(f"no Prefect server at {address} for {patience:g} s", "an answer", "start it, then this")
        if not told:
            log.warning("serve: waiting for the Prefect server at %s", address)
            told = True
        time.sleep(min(1.0, patience / 10))


if __name__ == "__main__":
    sys.exit(main())
