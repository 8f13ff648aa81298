"""`python -m flows.retrain NAME`: new data in, the pipeline again, and a new champion only if it is better.

Enters: a data set's name. Leaves: `models/NAME/champion.json`, a line in `metrics/history.jsonl`, an exit code.
Trade-off: the record in Prefect is worth less than the work: a run typed by hand starts no server, and where the one
that is configured (PREFECT_API_URL, or Prefect's profile) does not answer, the run goes on without.

Exit codes: 0 the run ended (promoted, not promoted, or nothing new: the last lines say which); 2 parameters; 3 input;
4 tables; 5 models; 6 training; 7 the challenger leaks or breaks a contract; 8 another run has the workspace; 9 DVC
ended with an error; 130 interrupted; 143 terminated.
"""

import argparse
import logging
import signal
import sys
import uuid
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from features.errors import VIP5Error
from features.runtime.stage import configure_logging
from flows.orchestration import prefect_env

if TYPE_CHECKING:
    from flows.retraining.config import Run
    from flows.retraining.steps import Result

log = logging.getLogger("vip5")


def main(argv: Sequence[str] | None = None) -> int:
    """Retrains one data set and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.retrain",
        description="Bring in what is new, run the pipeline, promote the model if it is better than the champion.",
        epilog=(__doc__ or "").partition("\n\n")[2],
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="NAME", help="the dataset of params.yaml, or a profile")
    parser.add_argument("--wait", type=float, metavar="SECONDS", help="wait so long for a run that is under way")
    parser.add_argument("--plain", action="store_true", help="without Prefect, even where a server answers")
    arguments = parser.parse_args(argv)
    configure_logging()
    signal.signal(signal.SIGTERM, _terminate)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job of a script's background starts with it ignored
    from flows.retraining.config import prepare

    try:
        run = prepare(arguments.name, run_id=uuid.uuid4().hex[:12])
        if arguments.wait is not None:
            run = replace(run, how=replace(run.how, wait_seconds=arguments.wait))
        if arguments.plain or not prefect_env.use_server("retrain"):
            result = run_plainly(run)
        else:
            prefect_env.prepare(level="INFO")
            from flows.retraining.prefect_flow import retrain as flow

            result = flow(run.name, wait_seconds=run.how.wait_seconds)
    except VIP5Error as error:
        log.error("retrain: %s", error)
        return error.exit_code
    except KeyboardInterrupt:
        log.error("retrain: interrupted; the champion stays")
        return 130
    from flows.retraining.step_timer import ending, verdict_lines

    for line in ending(result, verdict_lines(run)):
        log.info("retrain: %s: %s", arguments.name, line)
    return 0


def _terminate(_number: int, _frame: object) -> None:
    log.error("retrain: terminated; the champion stays")
    raise SystemExit(143)


def run_plainly(run: "Run") -> "Result":
    """Every step in turn, timed, without Prefect; the table of the run is logged at its end, however that is."""
    from flows.execution.workspace_lock import only_one
    from flows.retraining.step_timer import table, timed
    from flows.retraining.steps import retrain

    steps: list[dict[str, Any]] = []
    with only_one(run.run_id, run.name, run.root, wait_seconds=run.how.wait_seconds):
        try:
            return retrain(run, timed(steps))
        finally:
            for line in table(run, steps):
                log.info("%s", line)


if __name__ == "__main__":
    sys.exit(main())
