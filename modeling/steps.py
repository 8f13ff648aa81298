"""The optimiser steps of an epoch as rows of a corpus, their passes, and the share of each process.

Enters: the train prompts and the loop's settings. Leaves: arrays of row numbers that every process can work out alone.
Trade-off: a step is planned whole and then dealt out, so that one process and several take the same steps.
"""

import numpy as np
import numpy.typing as npt

from features.seeds import rng
from modeling.batches import Corpus
from modeling.sampler import cut_into_passes, plan_steps
from modeling.settings import LoopParams

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
