"""Times of tables to Unix seconds: numbers of seconds or milliseconds, and dates.

Reads a column of texts. Returns whole seconds, null where a text is no time between 1970 and 2242.
"""

import re
from datetime import UTC, datetime
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.parsing.cleaning import LATEST_SECONDS

Unit = Literal["auto", "seconds", "milliseconds"]
NUMBER = r"^[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?$"
LEAST_MILLISECONDS = 10**11  # March 1973; as seconds, the year 5138
_NUMBER = re.compile(NUMBER.removesuffix("$"), re.ASCII)
_AMERICAN = re.compile(r"(\d{1,2}) (\d{1,2}), (\d{4})")


def numbers(texts: pa.Array) -> pa.Array:
    """The texts that are numbers, null for all others.

    Example:
        >>> numbers(pa.array(["4.5", " 3 ", "x", "nan", None])).to_pylist()
        [4.5, 3.0, None, None, None]
    """
    trimmed = pc.utf8_trim_whitespace(texts)
    return pc.cast(pc.if_else(pc.match_substring_regex(trimmed, NUMBER), trimmed, None), pa.float64())


def number(text: str) -> float | None:
    """The number that a text is, or None."""
    trimmed = text.strip()
    return float(trimmed) if _NUMBER.fullmatch(trimmed) else None


def seconds(texts: pa.Array, unit: Unit = "auto") -> pa.Array:
    """Unix seconds; of `auto`, numbers from 100,000,000,000 on are milliseconds.

    Example:
        >>> seconds(pa.array(["964982703", "1588687728923", "2014-05-13", "soon"])).to_pylist()
        [964982703, 1588687728, 1399939200, None]
    """
    found = numbers(texts)
    values = found.to_numpy(zero_copy_only=False).astype(np.float64)
    if unit == "milliseconds":
        values = values / 1000
    elif unit == "auto":
        values = np.where(values >= LEAST_MILLISECONDS, values / 1000, values)
    if found.null_count > texts.null_count:
        for place in np.flatnonzero(found.is_null().to_numpy(zero_copy_only=False) & ~texts.is_null().to_numpy(False)):
            date = seconds_of_date(texts[int(place)].as_py())
            values[place] = np.nan if date is None else date
    within = (values >= 0) & (values < LATEST_SECONDS)
    return pa.array(np.floor(np.where(within, values, 0)).astype(np.int64), mask=~within)


def seconds_of_date(text: str) -> float | None:
    """Unix seconds of a date, in UTC where it names no zone; None if it is none.

    Example:
        >>> seconds_of_date("05 13, 2014"), seconds_of_date("2014-05-13T02:00:00+02:00")
        (1399939200.0, 1399939200.0)
    """
    text = text.strip()
    american = _AMERICAN.fullmatch(text)
    try:
        if american:
            month, day, year = map(int, american.groups())
            found = datetime(year, month, day, tzinfo=UTC)
        else:
            found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
