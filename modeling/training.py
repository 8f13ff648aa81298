"""The training loop that `pretrain` and `train` share.

Enters: a model whose `requires_grad` flags say what trains, a corpus, fixed valid rows. Leaves: the model with the best
measured weights, and the curve of the run.
Trade-off: losses are summed on the device and read once every few steps, so that a step never waits for the device; a
loss that is not finite is therefore noticed a few steps late.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from tqdm import tqdm

from features.errors import ParamsError, TrainingError
from features.schema import FAMILIES
from features.seeds import rng, stable_hash
from modeling.backbone import seeded
from modeling.batches import Corpus
from modeling.heap import keep_heap
from modeling.loss import weight_of
from modeling.optimiser import DecayedAdam, rate_share
from modeling.quick import quicken
from modeling.sampler import cut_into_passes, plan_steps, slots_of
from modeling.settings import LoopParams
from modeling.validation import Measure
from modeling.vip5 import VIP5

log = logging.getLogger("vip5")
LOG_STEPS = 20  # steps between two rows of the curve
Rows = npt.NDArray[np.int64]
Stopped = Literal["finished", "max_steps", "max_seconds", "patience"]


@dataclass(kw_only=True)
class History:
    """What happened: `rows` for the curve file, the rest for the metrics file."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    steps: int = 0
    examples: int = 0
    source_tokens: int = 0
    padding_share: float = 0.0
    seconds: float = 0.0
    stopped: Stopped = "finished"
    best_step: int = 0
    best: dict[str, float] = field(default_factory=dict)


def device_of(params: LoopParams) -> torch.device:
    """The device that the settings ask for, with torch's number of CPU threads set.

    Raises:
        ParamsError: a GPU is asked for and none is there.
    """
    if params.num_threads is not None:
        torch.set_num_threads(params.num_threads)
    if params.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(params.device)
    except RuntimeError as error:
        raise ParamsError(f"device {params.device!r}", "auto, cpu, cuda or cuda:N", "change it") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ParamsError(f"device {params.device!r} on a machine without a GPU", "auto or cpu", "change it")
    return device


def fit(model: VIP5, train: Corpus, measure: Measure | None, params: LoopParams, *, seed: int, stage: str) -> History:
    """Trains `model` in place and leaves the best measured weights in it; returns the history.

    Args:
        model: parameters with `requires_grad` train.
        train: the train prompts, all rounds.
        measure: what is measured every `measure_every` steps; None measures nothing and keeps the last step.
        params: the loop's settings.
        seed: names batches and dropout together with `stage`.
        stage: for the progress bar and the seed.

    Raises:
        TrainingError: the loss is not finite, or there is nothing to train on.
    """
    if params.epochs == 0:
        return History()
    if not len(train):
        raise TrainingError("no train prompts", "at least one", "run `dvc repro prompts`")
    keep_heap()
    run = _Run(model, train, measure, params, seed=seed, stage=stage)
    with seeded(seed, stage, "dropout"):
        return run.go()


class _Run:
    """The state of one call of `fit`."""

    def __init__(
        self, model: VIP5, train: Corpus, measure: Measure | None, params: LoopParams, *, seed: int, stage: str
    ) -> None:
        self.model, self.train, self.measure, self.params = model, train, measure, params
        self.seed, self.stage = seed, stage
        self.device = next(model.parameters()).device
        self.trained = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.optimiser = DecayedAdam(
            self.trained,
            betas=(params.betas[0], params.betas[1]),
            eps=params.eps,
            weight_decay=params.weight_decay,
            decay_norms=params.decay_norms,
        )
        self.plans = [epoch_steps(train, params, seed, stage, epoch) for epoch in range(params.epochs)]
        planned = sum(len(plan) for plan in self.plans)
        self.num_steps = planned if params.max_steps is None else min(planned, params.max_steps)
        self.family_weights = [params.family_weights[family] for family in FAMILIES]
        self.history = History()
        self.slots = 0  # source positions seen, padding included
        self.bits = quicken(model) if params.kernels == "quick" else None
        self.best_weights: dict[str, Tensor] = {}
        self.worse_in_a_row = 0
        self.sums = torch.zeros(2, len(FAMILIES), device=self.device)
        self.family_losses: dict[str, float] = {}

    def go(self) -> History:
        started = time.monotonic()
        with tqdm(total=self.num_steps, desc=self.stage, unit="step", mininterval=1.0, disable=None) as bar:
            for epoch, rows in self._steps():
                self.history.seconds = time.monotonic() - started
                rate = self.params.learning_rate * rate_share(self._progress(), self.params.warmup_share)
                self._step(rows, rate)
                bar.update()
                ends = self._ends()
                due = self.history.steps % self.params.measure_every == 0 or ends is not None
                if due or self.history.steps % LOG_STEPS == 0:
                    self._record(epoch, rate, bar, measured=due)
                if ends is None and self._is_out_of_patience():
                    ends = "patience"
                if ends is not None:
                    self.history.stopped = ends
                    break
        self.history.seconds = time.monotonic() - started
        self._restore_best()
        return self.history

    def _steps(self) -> Iterator[tuple[int, Rows]]:
        for epoch, plan in enumerate(self.plans):
            for rows in plan:
                yield epoch, rows

    def _progress(self) -> float:
        """Share of the run that is over: by steps or, where seconds are limited, by time if that is further."""
        done = (self.history.steps + 1) / (self.num_steps + 1)
        limit = self.params.max_seconds
        return done if limit is None else min(1.0, max(done, self.history.seconds / limit))

    def _step(self, rows: Rows, rate: float) -> None:
        """One optimiser step on `rows`: the gradients of its passes add up to those of the whole."""
        params, lengths, targets = self.params, self.train.lengths, self.train.targets.lengths
        whole = weight_of(targets[rows], self.train.families[rows], params.weighting, self.family_weights)
        names = (self.seed, self.stage, "dropout", self.history.steps)
        torch.manual_seed(stable_hash(*names) % 2**63)
        if self.bits is not None:
            self.bits.seed(stable_hash(*names, "bits"))
        self.model.train()
        passes = passes_of(self.train, rows, params)
        for part in passes:
            batch = self.train.batch(part).to(self.device)
            with arithmetic(self.device, params.dtype):
                losses = self.model(batch)
            (losses.total(params.weighting, self.family_weights) / whole).backward()
            self.sums += torch.stack(losses.by_family())
        self.optimiser.step(rate, params.clip_norm)
        self.history.steps += 1
        self.history.examples += len(rows)
        self.history.source_tokens += int(lengths[rows].sum())
        self.slots += slots_of(passes, lengths)
        self.history.padding_share = 1 - self.history.source_tokens / self.slots

    def _record(self, epoch: int, rate: float, bar: Any, *, measured: bool) -> None:
        sums, counts = self.sums.tolist()
        self.sums.zero_()
        if not np.isfinite(sums).all():
            raise TrainingError(
                f"a loss that is not finite by step {self.history.steps} of {self.stage}",
                "finite losses",
                f"lower {self.stage}.loop.learning_rate (now {self.params.learning_rate})",
            )
        mean = sum(sums) / sum(counts)
        self.family_losses |= {name: s / c for name, s, c in zip(FAMILIES, sums, counts, strict=True) if c}
        row: dict[str, Any] = {"step": self.history.steps, "epoch": epoch, "loss": mean}
        row |= {f"loss_{name}": self.family_losses.get(name) for name in FAMILIES}
        row["learning_rate"] = rate
        if measured and self.measure is not None:
            row |= self._measured(self.measure)
        self.history.rows.append(row)
        shown = {name[:3]: f"{value:.2f}" for name, value in self.family_losses.items()}
        speed = self.history.source_tokens / max(1e-9, self.history.seconds)
        bar.set_postfix(shown | {"tok/s": f"{speed:,.0f}"}, refresh=False)
        if measured and bar.disable:  # no terminal to draw on: a line a measurement instead
            valid = f", valid loss {row['valid_loss']:.3f}" if "valid_loss" in row else ""
            log.info(
                "%s: step %d of %d, loss %.3f%s, %s tokens/s", self.stage, self.history.steps, self.num_steps, mean,
                valid, f"{speed:,.0f}",
            )  # fmt: skip

    def _measured(self, measure: Measure) -> dict[str, float]:
        found = measure(self.model)
        by = self.params.select_by
        if by == "hr@10" and "valid_hr@10" not in found:
            raise ParamsError(
                f"{self.stage}.loop.select_by: hr@10 with identifiers of several tokens", "loss or last", "change it"
            )
        best = self.history.best
        better = not best or by == "last" or _score(found, by) > _score(best, by)
        self.worse_in_a_row = 0 if better else self.worse_in_a_row + 1
        if better:
            self.history.best, self.history.best_step = found, self.history.steps
            if by != "last":
                self.best_weights = {name: p.detach().clone() for name, p in self.trained}
        return found

    def _ends(self) -> Stopped | None:
        """Why this step is the last one, if it is."""
        if self.history.steps == self.num_steps:
            return "max_steps" if self.num_steps == self.params.max_steps else "finished"
        limit = self.params.max_seconds
        return "max_seconds" if limit is not None and self.history.seconds >= limit else None

    def _is_out_of_patience(self) -> bool:
        return self.params.patience is not None and self.worse_in_a_row >= self.params.patience

    def _restore_best(self) -> None:
        with torch.no_grad():
            for name, parameter in self.trained:
                if name in self.best_weights:
                    parameter.copy_(self.best_weights[name])
        self.model.eval()


def _score(found: dict[str, float], by: str) -> tuple[float, float]:
    """Higher is better; the loss breaks ties of HR@10."""
    return (found["valid_hr@10"], -found["valid_loss"]) if by == "hr@10" else (-found["valid_loss"], 0.0)


def arithmetic(device: torch.device, dtype: str) -> AbstractContextManager[Any]:
    """The context of a forward pass: bfloat16 by autocast, or float32 as it is."""
    return torch.autocast(device.type, torch.bfloat16) if dtype == "bfloat16" else nullcontext()


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
    """The passes in which the `rows` of one step go through the model."""
    return cut_into_passes(
        rows, train.lengths, train.targets.lengths, mixing=params.mixing, tokens_per_batch=params.tokens_per_batch
    )
