"""The optimiser steps of an epoch as rows of a corpus, their passes, and the share of each process.

Enters: the train prompts and the loop's settings. Leaves: arrays of row numbers that every process can work out alone,
and steps with their batches, which beside a GPU are made one step ahead.
Trade-off: a step is planned whole and then dealt out, so that one process and several take the same steps.
"""

from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from features.runtime.seeds import rng
from modeling.config.settings import LoopParams
from modeling.data.length_batching import cut_into_passes, plan_steps
from modeling.data.prompt_dataset import Batch, Corpus
from modeling.runtime import distributed

Rows = npt.NDArray[np.int64]


def epoch_steps(train: Corpus, params: LoopParams, seed: int, stage: str, epoch: int) -> list[Rows]:
    """The rows of each step of one epoch: the rows of round `epoch` modulo the number of rounds, each once."""
    rounds = np.unique(train.rounds)
    rows = np.flatnonzero(train.rounds == rounds[epoch % len(rounds)])
    steps = plan_steps(
        train.lengths[rows],
        train.targets.lengths[rows],
        batch_size=params.batch_size,
        mixing=params.mixing,
        generator=rng(seed, stage, "batches", epoch),
    )
    return [rows[step] for step in steps]


def passes_of(train: Corpus, rows: Rows, params: LoopParams) -> list[Rows]:
    """The passes in which `rows`, all or some of a step, go through the model."""
    return cut_into_passes(
        rows, train.lengths, train.targets.lengths, mixing=params.mixing, tokens_per_batch=params.tokens_per_batch
    )


def dealt(train: Corpus, rows: Rows, *, rank: int, world: int) -> Rows:
    """The rows of a step that process `rank` of `world` takes: dealt out by length, so that all have as much to do."""
    if world == 1:
        return rows
    return rows[np.argsort(train.lengths[rows], kind="stable")][rank::world]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One optimiser step."""

    epoch: int
    rows: Rows
    """Of all processes."""
    own: Rows
    """Of this one."""
    passes: list[Rows]
    """The own rows, pass by pass."""
    batches: Iterable[Batch]
    """The batch of each pass, on the device."""


def ready_steps(
    steps: Iterable[tuple[int, Rows]], train: Corpus, params: LoopParams, device: torch.device
) -> Iterator[Step]:
    """The steps with their batches: made when asked for on a CPU; beside a GPU a thread makes the next step's."""

    def step_of(epoch: int, rows: Rows) -> Step:
        own = dealt(train, rows, rank=distributed.rank(), world=distributed.world())
        passes = passes_of(train, own, params) if len(own) else []
        made = (train.batch(part, device) for part in passes)
        batches = made if device.type == "cpu" else list(made)
        return Step(epoch=epoch, rows=rows, own=own, passes=passes, batches=batches)

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
