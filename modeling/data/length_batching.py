"""Which rows make which optimiser step, and how the rows of a step are cut into passes of like length.

Enters: source and target lengths. Leaves: arrays of row numbers.
Trade-off: two ways to little padding. `random` draws a step's rows from the whole epoch, so that every step has the mix
of families of the epoch, and runs them in several passes whose gradients add up. `lengths` sorts rows within shuffled
windows, so that a step is one pass, nearly pure in length and hence often in family: for models so small that a pass
costs more than its arithmetic.
"""

from itertools import pairwise
from typing import Literal

import numpy as np
import numpy.typing as npt

from modeling.data.ragged import IntArray

Mixing = Literal["random", "lengths"]
WINDOW_BATCHES = 64  # batches whose rows are sorted together
SHORTEST, GROWTH = 16, 1.5  # source tokens of the first class of lengths, and how much longer the next class is
LONG, RUN_TOKENS = 256, 16_384  # rows of one length from LONG on, together RUN_TOKENS or more, are passes of their own
TARGET_CLASSES = (4, 16)  # target tokens up to which a row belongs to the first, the second class; the rest is one


def plan_steps(
    source_lengths: IntArray,
    target_lengths: IntArray,
    *,
    batch_size: int,
    mixing: Mixing,
    generator: np.random.Generator,
) -> list[npt.NDArray[np.int64]]:
    """Every row exactly once, in steps of `batch_size` rows (the last one may be smaller).

    Args:
        source_lengths: (N,) tokens by row.
        target_lengths: (N,) tokens by row.
        batch_size: rows a step.
        mixing: random or lengths, see above.
        generator: draws the order.
    """
    if mixing == "lengths":
        return plan_batches(source_lengths, target_lengths, batch_size=batch_size, generator=generator)
    order = generator.permutation(len(source_lengths))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def cut_into_passes(
    rows: npt.NDArray[np.int64],
    source_lengths: IntArray,
    target_lengths: IntArray,
    *,
    mixing: Mixing,
    tokens_per_batch: int | None,
) -> list[npt.NDArray[np.int64]]:
    """The `rows` of one step in passes of like length, short ones first.

    Args:
        rows: row numbers.
        source_lengths: of all rows.
        target_lengths: of all rows.
        mixing: random cuts where the class of the lengths changes; lengths leaves the step as it was planned, but many
            long rows of one length are passes without padding, whose attention needs no mask.
        tokens_per_batch: source tokens a pass at most, padding included; a longer row stands alone.

    Example: source lengths 20, 600, 24, 610 and targets of 3 -> the rows of 20 and 24, the rows of 600 and 610.
    """
    sources, targets = source_lengths[rows], target_lengths[rows]
    order = np.lexsort((targets, sources))
    groups = np.split(rows[order], _edges_of_runs(sources[order]))
    if mixing == "random":
        classes = np.ceil(np.log(np.maximum(sources, SHORTEST) / SHORTEST) / np.log(GROWTH)).astype(np.int64)
        classes = classes * (len(TARGET_CLASSES) + 1) + np.searchsorted(TARGET_CLASSES, targets)
        order = np.lexsort((sources, classes))
        groups = np.split(rows[order], np.flatnonzero(np.diff(classes[order])) + 1)
    return [part for group in groups for part in _cut(group, source_lengths[group], len(group), tokens_per_batch)]


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


def _edges_of_runs(lengths: IntArray) -> list[int]:
    """Where, in ascending `lengths`, runs of one great length begin and end."""
    bounds = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), len(lengths)]
    runs = [(start, stop) for start, stop in pairwise(bounds) if stop > start]
    own = [run for run in runs if lengths[run[0]] >= LONG and (run[1] - run[0]) * lengths[run[0]] >= RUN_TOKENS]
    return sorted({edge for run in own for edge in run} - {0, len(lengths)})


def padding_share(batches: list[npt.NDArray[np.int64]], lengths: IntArray) -> float:
    """Share of the source positions that are padding, between 0 and 1."""
    return 1 - sum(int(lengths[batch].sum()) for batch in batches) / max(1, slots_of(batches, lengths))


def slots_of(batches: list[npt.NDArray[np.int64]], lengths: IntArray) -> int:
    """Source positions of the batches, padding included."""
    return sum(len(batch) * int(lengths[batch].max()) for batch in batches)


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
