"""Plans the optimizer steps of an epoch, splits them into microbatches and shards them over processes.

Reads the train prompts and the settings of the loop. Yields steps with their batches; with a GPU, a thread prepares the
next step's batches. Every process computes the same plan, so that any number of processes takes the same steps.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from features.runtime.seeds import rng
from modeling.config.training import LoopParams
from modeling.data.length_batching import plan_steps, split_into_microbatches
from modeling.data.prompt_dataset import Batch, PromptDataset
from modeling.runtime import distributed

Rows = npt.NDArray[np.int64]


def epoch_steps(train: PromptDataset, params: LoopParams, seed: int, stage: str, epoch: int) -> list[Rows]:
    """The rows of each step of one epoch: each row of round `epoch` modulo the number of rounds, once."""
    rounds = np.unique(train.rounds)
    rows = np.flatnonzero(train.rounds == rounds[epoch % len(rounds)])
    steps = plan_steps(
        train.lengths[rows],
        train.targets.lengths[rows],
        batch_size=params.batching.batch_size,
        batching=params.batching.order,
        generator=rng(seed, stage, "batches", epoch),
    )
    return [rows[step] for step in steps]


def microbatches_of(train: PromptDataset, rows: Rows, params: LoopParams) -> list[Rows]:
    """Splits `rows` of a step into microbatches of similar length."""
    return split_into_microbatches(
        rows,
        train.lengths,
        train.targets.lengths,
        batching=params.batching.order,
        max_tokens_per_microbatch=params.batching.max_tokens_per_microbatch,
    )


def shard_rows(train: PromptDataset, rows: Rows, *, rank: int, world: int) -> Rows:
    """The rows of a step for process `rank` of `world`, distributed by length so that all have similar work."""
    if world == 1:
        return rows
    return rows[np.argsort(train.lengths[rows], kind="stable")][rank::world]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One optimiser step."""

    epoch: int
    rows: Rows
    """Rows of all processes."""
    local_rows: Rows
    """Rows of this process."""
    microbatches: list[Rows]
    """`local_rows`, by microbatch."""
    batches: Iterable[Batch]
    """The batch of each microbatch, on the device."""


def ready_steps(
    steps: Iterable[tuple[int, Rows]], train: PromptDataset, params: LoopParams, device: torch.device
) -> Iterator[Step]:
    """Yields steps with their batches: created on demand on a CPU, one step ahead in a thread with a GPU."""

    def step_of(epoch: int, rows: Rows) -> Step:
        local_rows = shard_rows(train, rows, rank=distributed.rank(), world=distributed.world())
        microbatches = microbatches_of(train, local_rows, params) if len(local_rows) else []
        lazy = (train.batch(part, device) for part in microbatches)
        batches = lazy if device.type == "cpu" else list(lazy)
        return Step(epoch=epoch, rows=rows, local_rows=local_rows, microbatches=microbatches, batches=batches)

    if device.type == "cpu":
        yield from (step_of(*step) for step in steps)
        return
    with ThreadPoolExecutor(1) as ahead:
        following: Future[Step] | None = None
        for step in steps:
            current, following = following, ahead.submit(step_of, *step)
            if current is not None:
                yield current.result()
        if following is not None:
            yield following.result()
