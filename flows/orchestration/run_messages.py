"""What a served run tells the terminal of `flows.serve`: that it began, what it does, how it ended.

Enters: a run of a deployment. Leaves: lines on standard error, which the server's process passes on.
Trade-off: the whole log of a run (every line of DVC) is on Prefect's page; the terminal has what an operator reads, and
the last lines of the log where a run failed.
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
class Told:
    """What there is to tell of one run: `lines` of its end, and the last ones of its log."""

    who: str
    """The name of the deployment."""
    served: bool
    page: Callable[[str], Any]
    """Prefect's log of the run."""
    lines: Sequence[str] = ()
    tail: deque[str] = field(default_factory=lambda: deque(maxlen=_TAIL))

    def log(self, line: str) -> None:
        """A line of the run's log: to Prefect's page, and to the terminal where the run was typed there."""
        self.tail.append(line)
        self.aside(line)

    def aside(self, line: str) -> None:
        """The same, of a line that explains no failure."""
        self.page(line)
        if not self.served:
            log.info("%s", line)


@contextmanager
def told(who: str, flow_run: Any, page: Callable[[str], Any], *, stopped: str) -> Iterator[Told]:
    """Tells the beginning and the end of a run of a deployment; of a run typed by hand its own command tells them."""
    this = Told(who=who, served=flow_run.deployment_id is not None, page=page)
    if not this.served:
        yield this
        return
    write_to_terminal()
    cause = f"due at {_clock(flow_run.expected_start_time)}" if flow_run.auto_scheduled else "triggered"
    log.info("%s: began at %s (%s, run %s)", who, _clock(datetime.now().astimezone()), cause, flow_run.id.hex[-12:])
    started = time.monotonic()

    def ended(how: str) -> None:
        log.info("%s: ended after %.0f s: %s", who, time.monotonic() - started, how)

    try:
        yield this
    except VIP5Error as error:
        _failed(this, ended, str(error))
        raise
    except Exception as error:
        _failed(this, ended, f"{type(error).__name__}: {error}")
        raise
    except BaseException:
        ended(f"stopped from outside; {stopped}")
        raise
    first, *rest = this.lines or ["done"]
    ended(first)
    _more(this, rest)


def _failed(this: Told, ended: Callable[[str], None], why: str) -> None:
    _more(this, [f"| {line}" for line in this.tail])
    ended(f"failed: {why}")
    _more(this, this.lines)


def _more(this: Told, lines: Sequence[str]) -> None:
    for line in lines:
        log.info("%s: %s", this.who, line)


def _clock(moment: datetime | None) -> str:
    return moment.astimezone().strftime("%H:%M:%S") if moment is not None else "once"


def write_to_terminal() -> None:
    """One line a message on standard error; the process of a served run has no logging of ours yet."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter())
    log.handlers = [handler]
    log.propagate = False
    log.setLevel(logging.INFO)
