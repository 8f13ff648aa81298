"""Which rows make which batch: like lengths together, families mixed over the epoch.

Enters: source and target lengths. Leaves: the batches of one epoch as arrays of row numbers.
Trade-off: rows are sorted by length only within shuffled windows, so that padding falls to a few percent and an epoch's
order still follows the seed. A batch is nearly pure in length, hence often in family; neighbours in time are not.
"""

import numpy as np
import numpy.typing as npt

from modeling.ragged import IntArray

WINDOW_BATCHES = 64  # batches whose rows are sorted together


def plan_batches(
    source_lengths: IntArray,
    target_lengths: IntArray,
    *,
    batch_size: int,
    tokens_per_batch: int | None = None,
    generator: np.random.Generator | None = None,
) -> list[npt.NDArray[np.int64]]:
    """Every row exactly once, in batches of rows of like length.

    Args:
        source_lengths: (N,) tokens by row.
        target_lengths: (N,) tokens by row; the second sorting key.
        batch_size: rows a batch at most.
        tokens_per_batch: source tokens a batch at most, padding included; a longer row stands alone.
        generator: draws windows and order; None keeps everything in length order, for measuring.

    Example:
        lengths [3, 9, 3, 9], batch_size 2, no generator -> [[0, 2], [1, 3]]
    """
    rows = np.arange(len(source_lengths)) if generator is None else generator.permutation(len(source_lengths))
    window = len(rows) if generator is None else batch_size * WINDOW_BATCHES
    batches: list[npt.NDArray[np.int64]] = []
    for start in range(0, len(rows), max(1, window)):
        chosen = rows[start : start + window]
        chosen = chosen[np.lexsort((target_lengths[chosen], source_lengths[chosen]))]
        batches += _cut(chosen, source_lengths[chosen], batch_size, tokens_per_batch)
    if generator is not None:
        generator.shuffle(batches)
    return batches


def padding_share(batches: list[npt.NDArray[np.int64]], lengths: IntArray) -> float:
    """Share of the source positions that are padding, between 0 and 1."""
    slots = sum(len(batch) * int(lengths[batch].max()) for batch in batches)
    return 1 - sum(int(lengths[batch].sum()) for batch in batches) / max(1, slots)


def _cut(
    rows: npt.NDArray[np.int64], lengths: IntArray, batch_size: int, tokens_per_batch: int | None
) -> list[npt.NDArray[np.int64]]:
    """`rows`, in ascending `lengths`, cut into batches."""
    batches, start = [], 0
    while start < len(rows):
        size = min(batch_size, len(rows) - start)
        if tokens_per_batch is not None:
            slots = np.arange(1, size + 1) * lengths[start : start + size]
            size = max(1, int(np.searchsorted(slots, tokens_per_batch, side="right")))
        batches.append(rows[start : start + size])
        start += size
    return batches
