"""Progress of long loops: a bar on a terminal, periodic log lines elsewhere.

Writes a tqdm bar, or lines such as "train: 120 of 480 steps, 0:35 left (loss 2.31)".
Trade-off: all loops of a process share one timer, so that many short loops log as often as one long loop.
"""

import logging
import os
import sys
import time
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

log = logging.getLogger("vip5")
EVERY = 10.0
"""Minimum number of seconds between two log lines."""
_said = [time.monotonic()]


class Progress:
    """A loop of `total` units, as a context manager.

    Args:
        total: Number of units in the loop.
        label: Name of the activity, such as "train".
        unit: Name of a unit in the plural, such as "steps".
        done: Units completed by an earlier run.
        limit: Seconds after which the loop stops; None for no limit.
        hidden: Whether to print nothing, for processes of rank > 0.
        keep: Whether the bar stays on the terminal at the end.
    """

    def __init__(
        self, total: int, label: str, unit: str, *, done: int = 0, limit: float | None = None, hidden: bool = False,
        keep: bool = False,
    ) -> None:  # fmt: skip
        self.total, self.label, self.unit, self.limit, self.hidden = total, label, unit, limit, hidden
        self.done = self._before = done
        self._started, self._beside = time.monotonic(), ""
        self._bar: Any = None
        if not hidden and on_terminal():
            self._bar = tqdm(total=total, initial=done, desc=label, unit=f" {unit}", mininterval=0.5, leave=keep)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def update(self, count: int = 1) -> None:
        """Adds `count` completed units."""
        self.done += count
        if self._bar is not None:
            self._bar.update(count)
        elif not self.hidden and time.monotonic() - _said[0] >= EVERY:
            _said[0] = time.monotonic()
            log.info("%s", self.line())

    def show(self, label: str = "", **beside: str) -> None:
        """Sets the label and the values shown next to the progress."""
        self.label = label or self.label
        self._beside = ", ".join(f"{name} {value}" for name, value in beside.items()) or self._beside
        if self._bar is not None:
            self._bar.set_description(self.label, refresh=False)
            self._bar.set_postfix_str(self._beside, refresh=False)

    def line(self) -> str:
        """The current state as text.

        Example: "train: 120 of 480 steps, 0:35 left (loss 2.31)"
        """
        beside = f" ({self._beside})" if self._beside else ""
        return f"{self.label}: {self.done:,} of {self.total:,} {self.unit}{self._left()}{beside}"

    def _left(self) -> str:
        """The time left, estimated from the mean pace and capped by the limit."""
        taken, new = time.monotonic() - self._started, self.done - self._before
        if not new:
            return ""
        seconds = taken / new * max(0, self.total - self.done)
        if self.limit is not None:
            seconds = min(seconds, max(0.0, self.limit - taken))
        return f", {clock(seconds)} left"


def on_terminal() -> bool:
    """Whether standard error is a terminal and logs are not JSON."""
    return sys.stderr.isatty() and os.environ.get("VIP5_LOG", "").lower() != "json"


def clock(seconds: float) -> str:
    """Formats seconds as minutes and seconds, with hours if there are any.

    Example:
        >>> clock(35), clock(3725)
        ('0:35', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
