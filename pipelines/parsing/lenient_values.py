"""Reads required values whose meaning is plain although their type is not the format's.

Reads a value of a parsed line: a key, a rating or a time. Returns the column's value, or a `Fault` that shows the
offending value. Each leniency is noted by a name of `TAKEN`: numeric keys, numbers as text, dates, other time units.
Trade-off: a number's unit is decided value by value, so that a file of two units is read; `datasets.X.time_unit`
overrules it.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pipelines.parsing import cleaning, times

TAKEN = {
    "numeric_key": "numeric keys taken as text (leading zeros may be missing)",
    "rating_as_text": "ratings given as text",
    "time_as_text": "times given as text",
    "time_from_date": "times taken from dates",
    "time_from_review_time": "times taken from reviewTime",
    "time_in_seconds": "times taken as seconds",
    "time_in_milliseconds": "times taken as milliseconds",
    "flag_as_text": "flags given as text",
    "byte_order_mark": "byte-order mark skipped",
}
TimeUnit = Literal["auto", "seconds", "milliseconds"]
_NUMBER = re.compile(r"[+-]?(?:\d{1,3}(?:,\d{3})+|\d{1,30})(?:\.\d{1,30})?(?:[eE][+-]?\d{1,2})?", re.ASCII)
_US_DATE = re.compile(r"(\d{1,2}) (\d{1,2}), (\d{4})", re.ASCII)
_FLAGS = {"true": True, "false": False}
_LARGEST_KEY = 2**63
_SHOWN = 180


@dataclass(frozen=True)
class Fault:
    """Why a line is rejected: a reason of `schema.REJECT_REASONS`, and the offending value."""

    reason: str
    shown: str


@dataclass(frozen=True)
class Reading:
    """What a dataset says about its values, and how many values of accepted lines were taken leniently, by name."""

    rating_range: tuple[float, ...] = (1.0, 5.0)
    time_unit: TimeUnit = "auto"
    taken: Counter[str] = field(default_factory=Counter)

    def unit(self, usual: int) -> int:
        """Time units per second: `usual`, unless the dataset names its unit."""
        return {"auto": usual, "seconds": 1, "milliseconds": 1000}[self.time_unit]


def shown(name: str, value: object) -> str:
    """The field with its value, in short.

    Example:
        >>> shown("overall", "five stars"), shown("asin", ["B1", "B2"])
        ("overall: 'five stars'", 'asin: a list of 2 values')
    """
    if isinstance(value, str):
        return f"{name}: {value[:_SHOWN]!r}"
    if isinstance(value, list | tuple | set | frozenset):
        return f"{name}: a list of {len(value)} values"
    if isinstance(value, Mapping):
        return f"{name}: an object of {len(value)} values"
    if isinstance(value, int) and value.bit_length() > 256:  # repr refuses thousands of digits
        return f"{name}: an integer of {value.bit_length()} bits"
    return f"{name}: {value!r}"


def absent(reason: str, name: str, record: Mapping[str, Any]) -> Fault:
    """The fault of a missing field, with the names of the fields that the line has.

    Example:
        >>> absent("missing_user", "reviewerID", {"rating": 5, "text": "Good"}).shown
        'no reviewerID; the line has rating, text'
    """
    if name in record:
        return Fault(reason, shown(name, record[name]))
    names = ", ".join(str(key)[:40] for key in list(record)[:20])
    return Fault(reason, f"no {name}; the line has {names or 'no fields'}")


def key(record: Mapping[str, Any], name: str, missing: str, notes: list[str]) -> str | Fault:
    """A key as text; whole numbers become their decimal text."""
    value = record.get(name)
    if isinstance(value, str):
        return cleaning.key(value) or Fault(missing, shown(name, value))
    if value is None:
        return absent(missing, name, record)
    whole = _whole(value)
    if whole is None or abs(whole) >= _LARGEST_KEY:
        return Fault("bad_key", shown(name, value))
    notes.append("numeric_key")
    return str(whole)


def rating(record: Mapping[str, Any], name: str, reading: Reading, notes: list[str]) -> float | Fault:
    """A rating within the dataset's range; also from text such as "4.0"."""
    value = record.get(name)
    if value is None:
        return absent("missing_rating", name, record)
    number = cleaning.rating(value)
    if number is None and isinstance(value, str):
        if not value.strip():
            return Fault("missing_rating", shown(name, value))
        number = numeric(value)
        notes.append("rating_as_text")
    least, most = reading.rating_range
    if number is None or not least <= number <= most:
        return Fault("bad_rating", shown(name, value))
    return number


def seconds(record: Mapping[str, Any], name: str, usual: int, reading: Reading, notes: list[str]) -> int | Fault:
    """Unix seconds of a number of 1/`usual` seconds, of such a number as text, or of a date.

    Without the field `name`, the date in `reviewTime` is read.
    """
    value = record.get(name)
    if value is None or value == "":
        written = record.get("reviewTime")
        if (when := date_seconds(written)) is not None:
            notes.append("time_from_review_time")
            return when
        return absent("missing_time", name, record) if written is None else Fault("bad_time", _written(record))
    number: object = value
    if isinstance(value, str):
        if (number := numeric(value)) is None:
            notes.append("time_from_date")
            when = date_seconds(value)
            return Fault("bad_time", shown(name, value)) if when is None else when
        notes.append("time_as_text")
    whole = _whole(number)
    when = None if whole is None else unix_seconds(whole, usual, reading.time_unit, notes)
    return Fault("bad_time", shown(name, value)) if when is None else when


def _written(record: Mapping[str, Any]) -> str:
    return shown("reviewTime", record.get("reviewTime"))


def unix_seconds(whole: int, usual: int, unit: TimeUnit, notes: list[str]) -> int | None:
    """Unix seconds of a time in `unit`; None before 1970 and after 2242.

    With "auto" the unit is 1/`usual` seconds, unless the other one is plainly meant.

    Example:
        >>> unix_seconds(1400000000, 1000, "auto", []), unix_seconds(1400000000123, 1, "auto", [])
        (1400000000, 1400000000)
    """
    if unit != "auto":
        usual = 1 if unit == "seconds" else 1000
    elif usual == 1 and whole >= times.LEAST_MILLISECONDS:
        usual = 1000
        notes.append("time_in_milliseconds")
    elif usual == 1000 and 0 < whole < cleaning.LATEST_SECONDS:
        usual = 1
        notes.append("time_in_seconds")
    whole //= usual
    return whole if 0 <= whole < cleaning.LATEST_SECONDS else None


def numeric(value: str) -> float | None:
    """The number that a text writes in digits, None for any other text.

    Example:
        >>> numeric(" 4.0 "), numeric("1,234"), numeric("five"), numeric("NaN")
        (4.0, 1234.0, None, None)
    """
    stripped = value.strip()
    return float(stripped.replace(",", "")) if _NUMBER.fullmatch(stripped) else None


def date_seconds(value: object) -> int | None:
    """Unix seconds of "05 13, 2014" or of an ISO date with or without a time; without a zone it is UTC.

    Example:
        >>> date_seconds("05 3, 2014"), date_seconds("2014-05-03T00:00:10Z"), date_seconds("May")
        (1399075200, 1399075210, None)
    """
    if not isinstance(value, str):
        return None
    stripped = value.strip()
    is_iso = len(stripped) >= len("2014-05-03") and stripped[4] == "-"
    if not is_iso and not _US_DATE.fullmatch(stripped):
        return None
    if (moment := times.seconds_of_date(stripped)) is None:
        return None
    whole = math.floor(moment)
    return whole if 0 <= whole < cleaning.LATEST_SECONDS else None


def flag(value: object, notes: list[str]) -> bool | None:
    """A yes or no, also from the texts "true" and "false" in any case; None for anything else."""
    if isinstance(value, bool):
        return value
    known = _FLAGS.get(value.strip().lower()) if isinstance(value, str) else None
    if known is not None:
        notes.append("flag_as_text")
    return known


def _whole(value: object) -> int | None:
    """An integer, or a float that is one; None for anything else."""
    if isinstance(value, int):
        return None if isinstance(value, bool) else value
    return int(value) if isinstance(value, float) and value.is_integer() else None
