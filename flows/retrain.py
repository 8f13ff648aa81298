"""`python -m flows.retrain NAME`: ingests new data, runs the pipeline and promotes the model if it is better.

Writes `models/NAME/champion.json` and one line to `metrics/history.jsonl`. The command starts no Prefect server; if the
configured one (PREFECT_API_URL, or Prefect's profile) is down, the run continues without being recorded there.

Exit codes: 0 the run ended (promoted, not promoted or nothing new, as the last lines say); 2 parameters; 3 input;
4 tables; 5 models; 6 training; 7 the challenger leaks or violates a contract; 8 another run holds the workspace; 9 DVC
failed; 130 interrupted; 143 terminated.
"""

import argparse
import logging
import signal
import sys
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.errors import VIP5Error
from features.runtime.exit_codes import exit_code_of
from features.runtime.faults import environment_faults
from features.runtime.remedies import for_profile
from features.runtime.stage import configure_logging
from flows.orchestration import prefect_env

if TYPE_CHECKING:
    from flows.retraining.config import Run
    from flows.retraining.steps import Result

log = logging.getLogger("vip5")


def main(argv: Sequence[str] | None = None) -> int:
    """Retrains one dataset and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.retrain",
        description="Ingest new data, run the pipeline and promote the model if it is better than the champion.",
        epilog=(__doc__ or "").partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="the dataset of params.yaml, or a profile")
    parser.add_argument("--wait", type=float, metavar="SECONDS", help="time to wait for a run in progress")
    parser.add_argument("--plain", action="store_true", help="run without Prefect, even if a server is up")
    arguments = parser.parse_args(argv)
    configure_logging()
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a script start with SIGINT ignored
    from flows.retraining.config import prepare

    try:
        with environment_faults():
            run = prepare(arguments.name, run_id=uuid.uuid4().hex[:12])
            if arguments.wait is not None:
                run = replace(run, config=replace(run.config, wait_seconds=arguments.wait))
            if arguments.plain or not prefect_env.use_server("retrain"):
                result = run_without_prefect(run)
            else:
                prefect_env.prepare(level="INFO")
                from flows.retraining.prefect_flow import retrain as flow

                result = flow(run.name, wait_seconds=run.config.wait_seconds)
    except VIP5Error as error:
        log.error("retrain: %s", for_profile(error, Path("params.yaml"), arguments.name))
        return error.exit_code
    except KeyboardInterrupt:
        log.error("retrain: interrupted; the champion stays")
        return 130
    from flows.retraining.step_timer import result_lines, verdict_lines

    for line in result_lines(result, verdict_lines(run)):
        log.info("retrain: %s: %s", arguments.name, line)
    return 0


def _terminate(_number: int, _frame: object) -> None:
    log.error("retrain: terminated; the champion stays")
    raise SystemExit(143)


def run_without_prefect(run: "Run") -> "Result":
    """Runs every step without Prefect and logs the table of the run, even after a failure."""
    from flows.execution.workspace_lock import workspace_lock
    from flows.retraining.step_timer import table, timed_steps
    from flows.retraining.steps import retrain

    steps: list[dict[str, Any]] = []
    with workspace_lock(run.run_id, run.name, run.root, wait_seconds=run.config.wait_seconds):
        try:
            return retrain(run, timed_steps(steps))
        finally:
            for line in table(run, steps):
                log.info("%s", line)


if __name__ == "__main__":
    sys.exit(exit_code_of("retrain", main))
