"""Log messages of a served run in the terminal of `flows.serve`: start, result, end.

Writes to standard error, which the server's process passes on.

Trade-off: Prefect's page holds the complete log of a run, every line of DVC included. The terminal shows start and
result, and the last lines of the log if the run failed.
"""

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from features.errors import VIP5Error
from features.runtime.logs import formatter

log = logging.getLogger("vip5")
_TAIL = 12


@dataclass
class RunReport:
    """The messages of one run: the `lines` of its result, and the `tail` of its log."""

    who: str
    """The name of the deployment."""
    served: bool
    page: Callable[[str], Any]
    """Prefect's log of the run."""
    lines: Sequence[str] = ()
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL))

    def log(self, line: str) -> None:
        """Logs a line to Prefect's page and, unless the run is served, to the terminal."""
        self.tail.append(line)
        self.log_detail(line)

    def log_detail(self, line: str) -> None:
        """Logs a line like `log`, but keeps it out of the tail that is repeated after a failure."""
        self.page(line)
        if not self.served:
            log.info("%s", line)


@contextmanager
def report_run(who: str, flow_run: Any, page: Callable[[str], Any], *, stopped: str) -> Iterator[RunReport]:
    """Logs the start and the end of a served run; a run started from the command line is logged by its command."""
    run = RunReport(who=who, served=flow_run.deployment_id is not None, page=page)
    if not run.served:
        yield run
        return
    write_to_terminal()
    cause = f"due at {_clock(flow_run.expected_start_time)}" if flow_run.auto_scheduled else "triggered"
    log.info("%s: began at %s (%s, run %s)", who, _clock(datetime.now().astimezone()), cause, flow_run.id.hex[-12:])
    started = time.monotonic()

    def ended(how: str) -> None:
        log.info("%s: ended after %.0f s: %s", who, time.monotonic() - started, how)

    try:
        yield run
    except VIP5Error as error:
        _failed(run, ended, str(error))
        raise
    except Exception as error:
        _failed(run, ended, f"{type(error).__name__}: {error}")
        raise
    except BaseException:
        ended(f"stopped from outside; {stopped}")
        raise
    first, *rest = run.lines or ["done"]
    ended(first)
    _more(run, rest)


def _failed(run: RunReport, ended: Callable[[str], None], why: str) -> None:
    _more(run, [f"| {line}" for line in run.tail])
    ended(f"failed: {why}")
    _more(run, run.lines)


def _more(run: RunReport, lines: Sequence[str]) -> None:
    for line in lines:
        log.info("%s: %s", run.who, line)


def _clock(moment: datetime | None) -> str:
    return moment.astimezone().strftime("%H:%M:%S") if moment is not None else "once"


def write_to_terminal() -> None:
    """Configures logging to standard error, one line per message, in the process of a served run."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter())
    log.handlers = [handler]
    log.propagate = False
    log.setLevel(logging.INFO)
