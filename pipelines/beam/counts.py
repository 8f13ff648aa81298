"""Counts that one unit of work adds to the sums of a Beam pipeline.

Returns (name, count) pairs, with names as JSON lists.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from features import errors

Counts = Mapping[str, int]


def unit_counts(work: Callable[[Any], Counts], unit: Any) -> list[tuple[str, int]]:
    """The counts of one unit and 1 for the unit itself; or, if the unit fails, its error.

    Example:
        >>> unit_counts(lambda unit: {"rows": unit}, 7)
        [('["units"]', 1), ('["count", "rows"]', 7)]
    """
    try:
        counts = work(unit)
    except errors.VIP5Error as error:
        return [(json.dumps(["failed", type(error).__name__, error.found, error.expected, error.action]), 1)]
    return [(json.dumps(["units"]), 1), *((json.dumps(["count", name]), n) for name, n in counts.items())]
