"""What one unit of work adds to the sums of a Beam pipeline.

Enters: a unit and the function that does it. Leaves: (name, count) pairs, names as JSON lists.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from features import errors

Counts = Mapping[str, int]


def unit_counts(work: Callable[[Any], Counts], unit: Any) -> list[tuple[str, int]]:
    """What one unit adds to the sums: its counts, and itself; or, in place of both, what a person must mend.

    Example:
        >>> unit_counts(lambda unit: {"rows": unit}, 7)
        [('["units"]', 1), ('["count", "rows"]', 7)]
    """
    try:
        counts = work(unit)
    except errors.VIP5Error as error:
        return [(json.dumps(["failed", type(error).__name__, error.found, error.expected, error.action]), 1)]
    return [(json.dumps(["units"]), 1), *((json.dumps(["count", name]), n) for name, n in counts.items())]
