"""Groups rows into optimizer steps, and the rows of a step into microbatches of similar length.

Reads source and target lengths; returns arrays of row numbers. `StepSampler` is the batch sampler of a training run.
Trade-off: both kinds of batching limit padding. `shuffled` draws the rows of a step from the whole epoch, so that every
step has the epoch's mix of families, and accumulates gradients over several microbatches. `length_bucketed` sorts rows
within shuffled windows, so that a step is one batch of similar length and often of one family; it is faster for models
so small that the overhead of a forward pass exceeds its computation.
"""

from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Literal

import numpy as np
from jaxtyping import Int, Int64
from torch.utils.data import Sampler

from features.runtime import torchrun
from features.runtime.seeds import rng
from modeling.config.training import LoopParams
from modeling.data.prompt_dataset import PromptDataset

Rows = Int64[np.ndarray, "_"]
"""Row numbers."""
Lengths = Int[np.ndarray, "N"]
"""Tokens of every row of the dataset."""
Batching = Literal["shuffled", "length_bucketed"]
WINDOW_BATCHES = 64  # batches per window whose rows are sorted together
SHORTEST, GROWTH = 16, 1.5  # source tokens of the first length class, and the growth factor of the next
LONG, RUN_TOKENS = 256, 16_384  # rows of equal length >= LONG with RUN_TOKENS in total form microbatches of their own
TARGET_CLASSES = (4, 16)  # largest target length of the first and the second class; the third is open


class StepSampler(Sampler[list[Rows]]):
    """Batch sampler of a training run: yields the rows of each microbatch of one optimizer step after another.

    Epoch e takes each row of round e, modulo the number of rounds, once. Seed, stage and epoch determine the steps, so
    that all processes plan the same steps and a resumed run continues with those that remain.

    Args:
        dataset: the train prompts of all rounds.
        params: epochs and batching of the loop.
        seed: determines the order, together with `stage`.
        stage: such as "train".
        rank: number of this process; it takes every `num_replicas`-th row of a step, sorted by length, so that all
            processes have similar work.
        num_replicas: number of processes.

    Attributes:
        epochs: the rows of each step, by epoch.
        start: number of steps to skip.

    Example:
        DataLoader(dataset, batch_sampler=StepSampler(...), collate_fn=list) yields one list of batches per step.
    """

    def __init__(
        self, dataset: PromptDataset, params: LoopParams, *, seed: int, stage: str,
        rank: int | None = None, num_replicas: int | None = None,
    ) -> None:  # fmt: skip
        self.sources, self.targets = dataset.lengths, dataset.targets.lengths
        self.batching: Batching = params.batching.order
        self.batch_size, self.max_tokens = params.batching.batch_size, params.batching.max_tokens_per_microbatch
        self.rank = torchrun.rank() if rank is None else rank
        self.num_replicas = torchrun.world() if num_replicas is None else num_replicas
        rounds = [np.flatnonzero(dataset.rounds == number) for number in np.unique(dataset.rounds)]
        self.epochs = [
            self._plan(rounds[epoch % len(rounds)], rng(seed, stage, "batches", epoch))
            for epoch in range(params.schedule.epochs)
        ]
        self.start = 0

    def __len__(self) -> int:
        return sum(len(steps) for steps in self.epochs) - self.start

    def __iter__(self) -> Iterator[list[Rows]]:
        return (self._microbatches(rows) for _, rows in self.steps())

    def steps(self) -> Iterator[tuple[int, Rows]]:
        """Epoch and rows, of all processes, of each step from `start` on."""
        return islice(((epoch, rows) for epoch, steps in enumerate(self.epochs) for rows in steps), self.start, None)

    def _plan(self, rows: Rows, generator: np.random.Generator) -> list[Rows]:
        steps = plan_steps(
            self.sources[rows], self.targets[rows], batch_size=self.batch_size, batching=self.batching,
            generator=generator,
        )  # fmt: skip
        return [rows[step] for step in steps]

    def _microbatches(self, rows: Rows) -> list[Rows]:
        if self.num_replicas > 1:
            rows = rows[np.argsort(self.sources[rows], kind="stable")][self.rank :: self.num_replicas]
        return split_into_microbatches(
            rows, self.sources, self.targets, batching=self.batching, max_tokens_per_microbatch=self.max_tokens
        )


def plan_steps(
    source_lengths: Lengths,
    target_lengths: Lengths,
    *,
    batch_size: int,
    batching: Batching,
    generator: np.random.Generator,
) -> list[Rows]:
    """Plans steps of `batch_size` rows that contain every row exactly once; the last step may be smaller.

    Args:
        source_lengths: (N,) tokens by row.
        target_lengths: (N,) tokens by row.
        batch_size: rows per step.
        batching: shuffled or length_bucketed, see above.
        generator: draws the order.
    """
    if batching == "length_bucketed":
        return plan_batches(source_lengths, target_lengths, batch_size=batch_size, generator=generator)
    order = generator.permutation(len(source_lengths))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def split_into_microbatches(
    rows: Rows,
    source_lengths: Lengths,
    target_lengths: Lengths,
    *,
    batching: Batching,
    max_tokens_per_microbatch: int | None,
) -> list[Rows]:
    """Splits the `rows` of one step into microbatches of similar length, shortest first.

    Args:
        rows: row numbers.
        source_lengths: source tokens of all rows.
        target_lengths: target tokens of all rows.
        batching: shuffled splits between length classes; length_bucketed keeps the step whole, except that many long
            rows of equal length form microbatches without padding, whose attention needs no mask.
        max_tokens_per_microbatch: source tokens per microbatch, including padding; a longer row is alone.

    Example: source lengths 20, 600, 24, 610 and targets of 3 -> the rows of 20 and 24, the rows of 600 and 610.
    """
    sources, targets = source_lengths[rows], target_lengths[rows]
    order = np.lexsort((targets, sources))
    groups = np.split(rows[order], _edges_of_runs(sources[order]))
    if batching == "shuffled":
        classes = np.ceil(np.log(np.maximum(sources, SHORTEST) / SHORTEST) / np.log(GROWTH)).astype(np.int64)
        classes = classes * (len(TARGET_CLASSES) + 1) + np.searchsorted(TARGET_CLASSES, targets)
        order = np.lexsort((sources, classes))
        groups = np.split(rows[order], np.flatnonzero(np.diff(classes[order])) + 1)
    return [
        part for group in groups for part in _cut(group, source_lengths[group], len(group), max_tokens_per_microbatch)
    ]


def plan_batches(
    source_lengths: Lengths,
    target_lengths: Lengths,
    *,
    batch_size: int,
    tokens_per_batch: int | None = None,
    generator: np.random.Generator | None = None,
) -> list[Rows]:
    """Plans batches of rows of similar length that contain every row exactly once.

    Args:
        source_lengths: (N,) tokens by row.
        target_lengths: (N,) tokens by row; the second sorting key.
        batch_size: maximum rows per batch.
        tokens_per_batch: maximum source tokens per batch, including padding; a longer row is alone.
        generator: draws windows and order; None sorts all rows by length, for evaluation.

    Example:
        lengths [3, 9, 3, 9], batch_size 2, no generator -> [[0, 2], [1, 3]]
    """
    rows = np.arange(len(source_lengths)) if generator is None else generator.permutation(len(source_lengths))
    window = len(rows) if generator is None else batch_size * WINDOW_BATCHES
    batches: list[Rows] = []
    for start in range(0, len(rows), max(1, window)):
        chosen = rows[start : start + window]
        chosen = chosen[np.lexsort((target_lengths[chosen], source_lengths[chosen]))]
        batches += _cut(chosen, source_lengths[chosen], batch_size, tokens_per_batch)
    if generator is not None:
        generator.shuffle(batches)
    return batches


def _edges_of_runs(lengths: Lengths) -> list[int]:
    """Bounds of the long runs of equal length in ascending `lengths`."""
    bounds = [0, *(np.flatnonzero(np.diff(lengths)) + 1).tolist(), len(lengths)]
    runs = [(start, stop) for start, stop in pairwise(bounds) if stop > start]
    long_runs = [run for run in runs if lengths[run[0]] >= LONG and (run[1] - run[0]) * lengths[run[0]] >= RUN_TOKENS]
    return sorted({edge for run in long_runs for edge in run} - {0, len(lengths)})


def padding_share(batches: list[Rows], lengths: Lengths) -> float:
    """Padding as a share of the source positions, between 0 and 1."""
    return 1 - sum(int(lengths[batch].sum()) for batch in batches) / max(1, slots_of(batches, lengths))


def slots_of(batches: list[Rows], lengths: Lengths) -> int:
    """Source positions of the batches, including padding."""
    return sum(len(batch) * int(lengths[batch].max()) for batch in batches)


def _cut(rows: Rows, lengths: Lengths, batch_size: int, tokens_per_batch: int | None) -> list[Rows]:
    """Splits `rows`, sorted by `lengths`, into batches."""
    batches, start = [], 0
    while start < len(rows):
        size = min(batch_size, len(rows) - start)
        if tokens_per_batch is not None:
            slots = np.arange(1, size + 1) * lengths[start : start + size]
            size = max(1, int(np.searchsorted(slots, tokens_per_batch, side="right")))
        batches.append(rows[start : start + size])
        start += size
    return batches
