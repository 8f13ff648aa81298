"""`python -m flows.trigger retrain NAME`: starts a run of a deployment that `flows.serve` or a work pool offers.

Enters: which deployment. Leaves: a run on the server; with --watch, its states as they come and an exit code.
Trade-off: Prefect's own command does the work; this one finds the server, keeps proxies away from loopback, and says in
one line where there is no server (Prefect would start one that runs nothing).
"""

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

from features.errors import BusyError
from features.runtime.stage import configure_logging
from flows.orchestration import prefect_env

log = logging.getLogger("vip5")


def main(argv: Sequence[str] | None = None) -> int:
    """Becomes `prefect deployment run`; returns an exit code only where there is no server."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.trigger", description="Start a run now, on the server of flows.serve or PREFECT_API_URL.",
        epilog="Example: .venv/bin/python -m flows.trigger retrain sample --watch. Exit codes with --watch: 0 "
        "completed; 1 failed or cancelled; 8 no server answers.",
    )  # fmt: skip
    parser.add_argument("flow", choices=("ingest", "retrain"))
    parser.add_argument("name", metavar="NAME", help="a data set that is served")
    parser.add_argument("--watch", action="store_true", help="show its states and wait for its end")
    arguments = parser.parse_args(argv)
    configure_logging()
    address, there = prefect_env.find_server()
    if not there:
        error = BusyError(
            f"no Prefect server {f'at {address}' if address else 'of flows.serve in this folder'}", "one that answers",
            "start .venv/bin/python -m flows.serve here in another terminal, or set PREFECT_API_URL",
        )  # fmt: skip
        log.error("trigger: %s", error)
        return error.exit_code
    prefect_env.prepare()
    words = ["deployment", "run", f"{arguments.flow}/{arguments.flow}-{arguments.name}"]
    words += ["--watch"] if arguments.watch else []
    return _become("prefect", *words)


def _become(*words: str) -> NoReturn:
    os.execv(sys.executable, [sys.executable, "-m", *words])  # noqa: S606 - our own words


if __name__ == "__main__":
    sys.exit(main())
