"""`python -m flows.serve --cron "0 3 * * 1"`: serves ingest and retrain as Prefect deployments until it is stopped.

Starts scheduled and triggered runs; exits with code 0 after Ctrl-C or SIGTERM. `prefect.yaml` defines the same
deployments for a work pool.

Trade-off: this process supervises two others, Prefect's server and the one that starts the runs, so that both have
their settings before they import Prefect, signals reach them in order, and neither outlives it.
"""

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from features.errors import ParamsError, VIP5Error
from features.runtime.exit_codes import exit_code_of
from features.runtime.faults import environment_faults
from features.runtime.names import checked_name
from features.runtime.params import load_params, nearest
from features.runtime.profile_names import profile_names
from features.runtime.profiles import dump_params
from features.runtime.stage import configure_logging
from flows.execution.workspace_lock import server_lock
from flows.orchestration import prefect_env
from flows.orchestration.prefect_server import (
    Child,
    check_home,
    check_port,
    end,
    start,
    start_server,
    wait_for,
)
from flows.scheduling.schedule import next_due

log = logging.getLogger("vip5")
_GRACE_SECONDS = 40.0
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
EXAMPLES = """\
Examples:
  .venv/bin/python -m flows.serve --cron "0 3 * * 1"                 retrain every Monday at three, UTC
  .venv/bin/python -m flows.serve toys beauty --cron "0 3 * * *" --timezone Europe/Zurich
  .venv/bin/python -m flows.trigger retrain sample --watch           retrain now; run in the same folder while it serves

Without PREFECT_API_URL (or a Prefect profile that sets it) a server is started on 127.0.0.1; its database is in
.prefect/, nothing leaves the machine. One retrain per dataset runs at a time; one that is due meanwhile is cancelled.
Exit codes: 0 stopped (Ctrl-C, SIGTERM); 2 invalid schedule, time zone or dataset; 3 a folder that is not writable;
8 the port or the folder is in use, or no Prefect server is at the configured URL; 9 a child process ended by itself.
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until interrupted; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.serve", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Offer ingest and retrain as Prefect deployments and run them: on schedule, and when triggered.",
    )  # fmt: skip
    parser.add_argument("names", metavar="NAME", nargs="*", help="datasets (default: that of params.yaml)")
    parser.add_argument("--cron", required=True, metavar="CRON", help='when to retrain, such as "0 3 * * 1"')
    parser.add_argument(
        "--timezone", default="UTC", metavar="ZONE", help="time zone of the schedule (default: %(default)s)"
    )
    parser.add_argument(
        "--port", type=int, default=4200,
        help="port of the server that is started if none is configured (default: %(default)s)",
    )  # fmt: skip
    parser.add_argument(
        "--patience", type=float, default=300, metavar="SECONDS",
        help="maximum time to wait for the server at the start (default: %(default)s)",
    )  # fmt: skip
    arguments = parser.parse_args(argv)
    configure_logging()
    try:
        names = checked_names(arguments.names)
        next_due(arguments.cron, arguments.timezone)
        with environment_faults(), server_lock():
            _serve(names, arguments)
    except VIP5Error as error:
        log.error("serve: %s", error)
        return error.exit_code
    return 0


def checked_names(names: Sequence[str]) -> list[str]:
    """The datasets to serve, without duplicates; the dataset of params.yaml if `names` is empty.

    Raises:
        ParamsError: a dataset or profile does not exist.
    """
    root_params = load_params(Path("params.yaml"))
    found = list(dict.fromkeys(names or [root_params["dataset"]]))
    for name in found:
        checked_name(name, "dataset")
        known = profile_names()
        if name != root_params["dataset"] and name not in known:
            raise ParamsError(f"profile {name!r}", nearest(name, known), f"write profiles/{name}.yaml, or choose one")
        params = dump_params(name)
        if name not in params["datasets"]:
            raise ParamsError(f"dataset {name!r}", nearest(name, params["datasets"]), "add it to `datasets`")
    return found


def _serve(names: Sequence[str], arguments: argparse.Namespace) -> None:
    """Supervises the local server, if any, and the process that starts the runs, until a signal arrives."""
    for number in _ENDING:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:  # nohup ignores it
            signal.signal(number, _stop)
    children: list[Child] = []
    try:
        _start(names, arguments, children)
        while True:
            for child in children:
                child.check()
            time.sleep(0.3)
    except KeyboardInterrupt:
        log.info("serve: stopping; a run in progress is interrupted")
    finally:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)
        for child in reversed(children):
            end(child, _GRACE_SECONDS)
    log.info("serve: stopped")


def _start(names: Sequence[str], arguments: argparse.Namespace, children: list[Child]) -> None:
    """Checks all preconditions, then starts the processes and adds them to `children`."""
    address, wanted = prefect_env.configured_address()
    start_own = not (address and wanted)
    if start_own:
        check_port(arguments.port)
        check_home()
        address = f"http://127.0.0.1:{arguments.port}/api"
    from flows.retraining.config import prepare

    for name in names:
        prepare(name, run_id="check")  # reports invalid parameters now, not when the run is due
    assert address is not None  # noqa: S101 - configured, or that of the local server
    os.environ[prefect_env.ADDRESS] = address
    prefect_env.prepare(level="INFO")
    if start_own:
        log.info("serve: starting a Prefect server on port %d (up to a minute the first time)", arguments.port)
        children.append(start_server(arguments.port, address))
    wait_for(address, arguments.patience, children[0] if start_own else None)
    command = ["flows.scheduling.deployments", *names, "--cron", arguments.cron, "--timezone", arguments.timezone]
    children.append(start("the process that starts the runs", [*command, *(["--own"] if start_own else [])], {}))


def _stop(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(exit_code_of("serve", main))
