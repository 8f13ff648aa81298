"""Extends item codes to new items: known items keep their codes, new ones join their most similar item.

Reads codes clustered over all items and the codes of an earlier run. Returns codes for all items.
Trade-off: similarity is the length of the shared prefix of the new codes, so it works for every clustering and needs no
features. After many additions the old codes fit worse than newly clustered ones.
"""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from features.errors import TableError


def extend_codes(fresh: np.ndarray, previous: Sequence[Sequence[int]]) -> tuple[np.ndarray, int]:
    """Codes (N, L + 1): the first items keep those of `previous`; each later item takes those of its nearest item.

    Args:
        fresh: (N, L) codes of all items, ordered by item id.
        previous: Codes of L + 1 parts of items 1 to P, with P at most N.

    Returns:
        The unique codes, and the number of rows that share their first L parts with an earlier row.

    Raises:
        TableError: `previous` has more items than `fresh`, or codes of another length.

    Example:
        Known items with fresh codes [0, 0] and [1, 0] and previous codes [5, 5, 0] and [7, 2, 0]; a new item with
        fresh code [1, 3] shares the 1 with the second and becomes [7, 2, 1].
    """
    known, levels = len(previous), fresh.shape[1]
    lengths = {len(code) for code in previous}
    if known > len(fresh) or (known and lengths != {levels + 1}):
        raise TableError(
            f"{known} earlier codes of {sorted(lengths)} parts for {len(fresh)} items",
            f"at most as many, of {levels + 1} parts",
            "set identifiers.previous to null, or sequences.previous_items to the same run",
        )
    nearest: dict[tuple[int, ...], int] = {}  # prefix of a fresh code to the first known item with it
    for row, code in enumerate(map(tuple, fresh[:known].tolist())):
        for length in range(levels + 1):
            nearest.setdefault(code[:length], row)
    last: defaultdict[tuple[int, ...], int] = defaultdict(int)
    for known_code in previous:
        stem = tuple(known_code[:-1])
        last[stem] = max(last[stem], known_code[-1] + 1)
    codes = [list(code) for code in previous]
    for code in map(tuple, fresh[known:].tolist()):
        like = next((nearest[code[:n]] for n in range(levels, -1, -1) if code[:n] in nearest), None)
        stem = code if like is None else tuple(previous[like][:-1])
        codes.append([*stem, last[stem]])
        last[stem] += 1
    extended = np.array(codes, np.int64).reshape(len(fresh), levels + 1)
    return extended, len(extended) - len(np.unique(extended[:, :levels], axis=0))
