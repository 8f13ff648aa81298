"""Validates a cron schedule and computes when it is due, with Prefect's parser but without importing Prefect.

Trade-off: Prefect's vendored croniter is loaded by path, because importing Prefect takes seconds and reads its settings
too early.
"""

import importlib.util
import sys
from datetime import datetime
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import ZoneInfo, available_timezones

from features.errors import ParamsError
from features.runtime.params import nearest


def next_due(cron: str, timezone: str, after: datetime | None = None) -> datetime:
    """Returns the next time at which the schedule is due.

    Raises:
        ParamsError: the time zone or the schedule is invalid, or the schedule is never due.

    Example:
        >>> str(next_due("0 3 * * 1", "UTC", datetime.fromisoformat("2026-11-28T12:00:00+00:00")))
        '2026-11-30 03:00:00+00:00'
    """
    if timezone not in available_timezones():
        raise ParamsError(f"time zone {timezone!r}", _near(timezone), "correct --timezone")
    croniter = _parser().croniter
    unsupported = any(field.lower() in {"r", "h"} for field in cron.split())
    if unsupported or not croniter.is_valid(cron):
        raise ParamsError(
            f"schedule {cron!r}", "minute, hour, day of the month, month, day of the week", 'write it as "0 3 * * 1"'
        )
    try:
        found: Any = croniter(cron, after or datetime.now(ZoneInfo(timezone))).get_next(datetime)
    except ValueError as error:
        raise ParamsError(f"schedule {cron!r}, which is never due", "a day that exists", "change it") from error
    assert isinstance(found, datetime)  # noqa: S101 - the requested type
    return found


def _near(timezone: str) -> str:
    known = sorted(available_timezones())
    same = [name for name in known if name.lower() == timezone.lower()]
    if same:
        return same[0]
    last = {name.rpartition("/")[2]: name for name in known}
    near = nearest(timezone.rpartition("/")[2], list(last))
    if "nearest" not in near:
        return "a name such as UTC or Europe/Zurich"
    return f"{', '.join(last[name] for name in near.partition(' (')[0].split(', '))} (the nearest known)"


@cache
def _parser() -> ModuleType:
    """Loads Prefect's vendored copy of croniter."""
    prefect = importlib.util.find_spec("prefect")
    assert prefect is not None  # noqa: S101 - it is a dependency
    assert prefect.origin is not None  # noqa: S101
    path = Path(prefect.origin).parent / "_vendor" / "croniter" / "__init__.py"
    spec = importlib.util.spec_from_file_location("_croniter_of_prefect", path)
    assert spec is not None  # noqa: S101
    assert spec.loader is not None  # noqa: S101
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
