"""The batch sampler: every row once per epoch, resumable, and split over processes."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from features.runtime.stage import Context
from modeling import pretrain
from modeling.config.training import Batching, LoopParams, Schedule
from modeling.data.length_batching import StepSampler
from modeling.data.prompt_dataset import PromptDataset
from modeling.models.checkpoints import open_model
from modeling.training.run_files import prompt_tables
from tests.modeling.world import write_world

LOOP = LoopParams(schedule=Schedule(epochs=2), batching=Batching(batch_size=16))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> PromptDataset:
    place: Context = write_world(tmp_path_factory.mktemp("world"))
    pretrain.run(pretrain.Params(schedule=Schedule(epochs=0)), place)
    return PromptDataset.load(prompt_tables(place, "train"), open_model(place)[1], None)


def rows_of(sampler: StepSampler) -> list[list[int]]:
    """Row numbers of each step, in the order of the microbatches."""
    return [[int(row) for part in microbatches for row in part] for microbatches in sampler]


def test_epochs_cycle_through_the_rounds(corpus: PromptDataset) -> None:
    halves = corpus.to(torch.device("cpu"))
    halves.rounds = corpus.user_ids % 2
    sampler = StepSampler(halves, replace(LOOP, schedule=Schedule(epochs=3)), seed=1, stage="train")
    for steps, parity in zip(sampler.epochs, (0, 1, 0), strict=True):
        rows = sorted(int(row) for step in steps for row in step)
        assert rows == [row for row in range(len(corpus)) if corpus.user_ids[row] % 2 == parity]
    assert [epoch for epoch, _ in sampler.steps()] == [0] * 3 + [1] * 3 + [2] * 3


def test_the_seed_and_the_stage_decide_the_steps(corpus: PromptDataset) -> None:
    first = rows_of(StepSampler(corpus, LOOP, seed=1, stage="train"))
    assert rows_of(StepSampler(corpus, LOOP, seed=1, stage="train")) == first
    assert rows_of(StepSampler(corpus, LOOP, seed=2, stage="train")) != first
    assert rows_of(StepSampler(corpus, LOOP, seed=1, stage="pretrain")) != first
    assert first[:6] != first[6:]  # another order in each epoch


@pytest.mark.parametrize("start", [0, 1, 6, 7, 12])
def test_a_resumed_sampler_yields_the_remaining_steps(corpus: PromptDataset, start: int) -> None:
    sampler = StepSampler(corpus, LOOP, seed=1, stage="train")
    whole = rows_of(sampler)
    sampler.start = start
    assert len(sampler) == 12 - start
    assert rows_of(sampler) == whole[start:]


def test_processes_share_the_rows_of_a_step_by_length(corpus: PromptDataset) -> None:
    params = replace(LOOP, batching=Batching(batch_size=89))
    whole = [sorted(step) for step in rows_of(StepSampler(corpus, params, seed=1, stage="train"))]
    samplers = [StepSampler(corpus, params, seed=1, stage="train", rank=rank, num_replicas=4) for rank in range(4)]
    shares = [rows_of(sampler) for sampler in samplers]
    assert [sorted(row for rows in parts for row in rows) for parts in zip(*shares, strict=True)] == whole
    tokens = [int(corpus.lengths[parts[0]].sum()) for parts in shares]
    assert max(tokens) - min(tokens) < 2 * corpus.lengths.max()
    assert [len(parts[1]) for parts in shares] == [1, 0, 0, 0]  # the last step of the epoch has one row


def test_a_data_loader_yields_the_batches_of_each_step(corpus: PromptDataset) -> None:
    sampler = StepSampler(corpus, LOOP, seed=1, stage="train")
    loader = DataLoader(corpus, batch_sampler=sampler, collate_fn=list)
    assert len(loader) == 12
    for microbatches, batches in zip(sampler, loader, strict=True):
        assert [batch.rows.tolist() for batch in batches] == [rows.tolist() for rows in microbatches]
        for rows, batch in zip(microbatches, batches, strict=True):
            assert torch.equal(batch.input_ids, corpus.batch(rows).input_ids)


def test_a_dataset_puts_its_batches_on_its_device(corpus: PromptDataset) -> None:
    batch = corpus.to(torch.device("meta"))[np.array([2, 5])]
    assert {tensor.device.type for tensor in vars(batch).values() if isinstance(tensor, torch.Tensor)} == {"meta"}
    assert batch.rows.tolist() == [2, 5]
    assert corpus[np.array([2])].labels.device.type == "cpu"
