"""`python -m flows.trigger retrain NAME`: starts a run of a deployment of `flows.serve` or a work pool.

Wraps `prefect deployment run`: finds the server, bypasses proxies for loopback, and fails with one line if no server is
up (Prefect would start one that runs nothing). With --watch it shows the run's states and returns an exit code.
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from features.errors import BusyError, ParamsError
from features.runtime.exit_codes import exit_code_of
from features.runtime.names import checked_name
from features.runtime.stage import configure_logging
from flows.orchestration import prefect_env

log = logging.getLogger("vip5")


def main(argv: Sequence[str] | None = None) -> int:
    """Replaces this process by `prefect deployment run`; returns an exit code only if no server is up."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.trigger", description="Start a run on the server of flows.serve or PREFECT_API_URL.",
        epilog="Example: .venv/bin/python -m flows.trigger retrain sample --watch. Exit codes with --watch: 0 "
        "completed; 1 failed or cancelled; 8 no server is up.",
    )  # fmt: skip
    parser.add_argument("flow", choices=("ingest", "retrain"))
    parser.add_argument("name", metavar="NAME", help="a served dataset")
    parser.add_argument("--watch", action="store_true", help="show the run's states and wait for its end")
    arguments = parser.parse_args(argv)
    configure_logging()
    try:
        checked_name(arguments.name, "dataset")
    except ParamsError as unsafe:
        log.error("trigger: %s", unsafe)
        return unsafe.exit_code
    address, there = prefect_env.find_server()
    if not there:
        error = BusyError(
            f"no Prefect server {f'at {address}' if address else 'of flows.serve in this folder'}", "a running server",
            "start .venv/bin/python -m flows.serve in this folder in another terminal, or set PREFECT_API_URL",
        )  # fmt: skip
        log.error("trigger: %s", error)
        return error.exit_code
    prefect_env.prepare()
    command = ["deployment", "run", f"{arguments.flow}/{arguments.flow}-{arguments.name}"]
    command += ["--watch"] if arguments.watch else []
    return _become("prefect", *command)


def _become(*command: str) -> NoReturn:
    os.execv(sys.executable, [sys.executable, "-m", *command])  # noqa: S606 - fixed arguments


if __name__ == "__main__":
    sys.exit(exit_code_of("trigger", main))
