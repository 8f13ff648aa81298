"""The training loop that `pretrain` and `train` share.

Enters: a model whose `requires_grad` flags say what trains, a corpus, fixed valid rows. Leaves: the model with the best
measured weights, and the curve of the run.
Trade-off: losses are summed on the device and read once every few steps, so that a step never waits for the device; a
loss that is not finite is therefore noticed a few steps late.
"""

import logging
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch

from features.errors import ParamsError, TrainingError
from features.runtime.progress import Progress
from features.runtime.seeds import stable_hash
from features.schema import FAMILIES
from modeling.config.settings import LoopParams
from modeling.data.length_batching import slots_of
from modeling.data.prompt_dataset import Corpus
from modeling.data.seen_item_mask import NamedItems
from modeling.data.span_noise import with_word_noise
from modeling.kernels.fused_modules import quicken
from modeling.models.t5 import seeded
from modeling.models.token_loss import weight_of
from modeling.models.vip5 import VIP5
from modeling.runtime import distributed
from modeling.runtime.devices import arithmetic
from modeling.runtime.malloc import is_out_of_memory, keep_heap
from modeling.training.best_checkpoint import Choice
from modeling.training.distillation import Teacher
from modeling.training.optimizer import DecayedAdam, rate_share
from modeling.training.resume_state import State, load_state, save_state
from modeling.training.step_planner import Rows, Step, epoch_steps, ready_steps
from modeling.training.training_log import History, Stopped, beside_the_bar, peak_memory_gb
from modeling.training.validation import Measure

log = logging.getLogger("vip5")
LOG_STEPS = 20  # steps between two rows of the curve


def fit(
    model: VIP5,
    train: Corpus,
    measure: Measure | None,
    params: LoopParams,
    *,
    seed: int,
    stage: str,
    checkpoints: Path | None = None,
    teacher: Teacher | None = None,
) -> History:
    """Trains `model` in place and leaves the best measured weights in it; returns the history.

    Args:
        model: parameters with `requires_grad` train.
        train: the train prompts, all rounds.
        measure: what is measured every `measure_every` steps; None measures nothing and keeps the last step.
        params: the loop's settings.
        seed: names batches and dropout together with `stage`.
        stage: for the progress bar and the seed.
        checkpoints: where states of the run are written and looked for; None writes none.
        teacher: soft targets for rows of `train`.

    Raises:
        TrainingError: memory does not suffice, the loss is not finite, or there is nothing to train on.
    """
    if params.epochs == 0:
        return History()
    if not len(train):
        raise TrainingError("no train prompts", "at least one", "run `.venv/bin/dvc repro prompts`")
    keep_heap()
    if params.word_noise:
        train = with_word_noise(train, params.word_noise, seed=seed, stage=stage)
    run = _Run(model, train, measure, params, seed=seed, stage=stage, checkpoints=checkpoints, teacher=teacher)
    with seeded(seed, stage, "dropout"):
        return run.go()


class _Run:
    """The state of one call of `fit`."""

    def __init__(
        self, model: VIP5, train: Corpus, measure: Measure | None, params: LoopParams, *, seed: int, stage: str,
        checkpoints: Path | None, teacher: Teacher | None,
    ) -> None:  # fmt: skip
        self.model, self.train, self.measure, self.params = model, train, measure, params
        self.seed, self.stage, self.checkpoints, self.teacher = seed, stage, checkpoints, teacher
        self.device = next(model.parameters()).device
        self.named = NamedItems(train) if params.leave_out_named else None
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
        quick = params.kernels == "quick" and not params.compile
        self.bits = quicken(model.t5) if quick else None
        if params.compile:
            model.compile(dynamic=True)
        self.history = History(planned=self.num_steps)
        self.choice = Choice(params.select_by, params.patience)
        self.sums = torch.zeros(2, len(FAMILIES), device=self.device)
        self.family_losses: dict[str, float] = {}
        self.valid: dict[str, str] = {}
        self.saved_at = self.started = time.monotonic()

    def go(self) -> History:
        self._resume()
        limit = None if self.params.max_seconds is None else self.params.max_seconds - self.history.seconds
        with Progress(
            self.num_steps, self.stage, "steps", done=self.history.steps, limit=limit, hidden=distributed.rank() > 0,
            keep=True,
        ) as bar:  # fmt: skip
            for step in ready_steps(self._steps(), self.train, self.params, self.device):
                self.history.seconds = self._seconds()
                rate = self.params.learning_rate * rate_share(self._progress(), self.params.warmup_share)
                self._step(step, rate)
                bar.update()
                ends = self._ends()
                due = self.history.steps % self.params.measure_every == 0 or ends is not None
                if due or self.history.steps % LOG_STEPS == 0:
                    self._record(step.epoch, rate, bar, measured=due)
                if ends is None and self.choice.is_out_of_patience:
                    ends = "patience"
                if ends is not None:
                    self.history.stopped = ends
                    break
                self._save_if_due()
        self.history.seconds = self._seconds()
        self.history.peak_memory_gb = peak_memory_gb(self.device)
        if self.history.stopped == "max_seconds" and not distributed.rank():
            log.warning("%s: %s", self.stage, self.history.ended_early())
        self.choice.restore(self.trained)
        self.model.eval()
        return self.history

    def _seconds(self) -> float:
        """Since the start, those before a kill included; the same in every process where decisions hang on it."""
        seconds = time.monotonic() - self.started
        return seconds if self.params.max_seconds is None else distributed.from_the_first(lambda: seconds)

    def _steps(self) -> Iterator[tuple[int, Rows]]:
        """Epoch and rows of every step that is still to be taken."""
        done = self.history.steps
        for epoch, plan in enumerate(self.plans):
            for rows in plan[done:]:
                yield epoch, rows
            done = max(0, done - len(plan))

    def _progress(self) -> float:
        """Share of the run that is over: by steps or, where seconds are limited, by time if that is further."""
        done = (self.history.steps + 1) / (self.num_steps + 1)
        limit = self.params.max_seconds
        return done if limit is None else min(1.0, max(done, self.history.seconds / limit))

    def _step(self, step: Step, rate: float) -> None:
        """One optimiser step: the gradients of all passes in all processes add up to those of the whole."""
        rows = step.rows
        names = (self.seed, self.stage, "dropout", self.history.steps, distributed.rank())
        torch.manual_seed(stable_hash(*names) % 2**63)
        if self.bits is not None:
            self.bits.seed(stable_hash(*names, "bits"))
        self.model.train()
        weighting, targets = self.params.weighting, self.train.targets.lengths
        whole = weight_of(targets[rows], self.train.families[rows], weighting, self.family_weights)
        try:
            for part, batch in zip(step.passes, step.batches, strict=True):
                soft = None if self.teacher is None else self.teacher.soft(part, self.device)
                with arithmetic(self.device, self.params.dtype):
                    losses = self.model(batch, soft, self.named.of(part, self.device) if self.named else None)
                (losses.total(weighting, self.family_weights) / whole).backward()
                self.sums += torch.stack(losses.by_family())
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise self._out_of_memory() from None
            raise
        distributed.add_up_gradients(self.optimiser.parameters)
        self.optimiser.step(rate, self.params.clip_norm)
        self.history.steps += 1
        self.history.examples += len(rows)
        self.history.source_tokens += int(self.train.lengths[rows].sum())
        lost = slots_of(step.passes, self.train.lengths) - int(self.train.lengths[step.own].sum())
        self.history.slots += int(self.train.lengths[rows].sum()) + lost * distributed.world()

    def _out_of_memory(self) -> TrainingError:
        self.optimiser.adam.zero_grad(set_to_none=True)
        return TrainingError(
            f"not enough memory for step {self.history.steps + 1} of {self.stage}{self._kept()}",
            "passes that fit",
            f"lower {self.stage}.loop.tokens_per_batch (now {self.params.tokens_per_batch})",
        )

    def _kept(self) -> str:
        """Writes the state as it is and says where it lies; the weights are those of the last good step."""
        place = self._save()
        return "" if place is None else f" (the state before it is in {place})"

    def _record(self, epoch: int, rate: float, bar: Progress, *, measured: bool) -> None:
        sums, counts = distributed.add_up(self.sums).tolist()
        self.sums.zero_()
        if not np.isfinite(sums).all():
            raise TrainingError(
                f"a loss that is not finite by step {self.history.steps} of {self.stage}{self._kept()}",
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
        self.history.peak_memory_gb = peak_memory_gb(self.device)
        self.valid |= {"valid loss": f"{row['valid_loss']:.3f}"} if "valid_loss" in row else {}
        bar.show(loss=f"{mean:.3f}", **self.valid, **beside_the_bar(self.history, self.family_losses))

    def _measured(self, measure: Measure) -> dict[str, float]:
        found = distributed.from_the_first(lambda: measure(self.model))
        try:
            better = self.choice.is_better(found, self.history.best, self.trained)
        except ParamsError as error:
            raise ParamsError(f"{self.stage}.loop.{error.found}", error.expected, error.action) from None
        if better:
            self.history.best, self.history.best_step = found, self.history.steps
        return found

    def _ends(self) -> Stopped | None:
        """Why this step is the last one, if it is."""
        if self.history.steps == self.num_steps:
            return "max_steps" if self.num_steps == self.params.max_steps else "finished"
        limit = self.params.max_seconds
        return "max_seconds" if limit is not None and self.history.seconds >= limit else None

    def _save_if_due(self) -> None:
        steps, seconds = self.params.checkpoint_steps, self.params.checkpoint_seconds
        late = seconds is not None and distributed.from_the_first(lambda: time.monotonic() - self.saved_at >= seconds)
        if self.checkpoints is None or not (late or (steps is not None and self.history.steps % steps == 0)):
            return
        distributed.add_up(self.sums)
        if distributed.rank():
            self.sums.zero_()
        self._save()

    def _save(self) -> Path | None:
        """The state between two steps, written by the first process alone."""
        if self.checkpoints is None or distributed.rank():
            return None
        tensors, seen = self.optimiser.moments()
        tensors |= {f"weight:{name}": parameter for name, parameter in self.trained}
        tensors |= {f"best:{name}": weight for name, weight in self.choice.weights.items()}
        self.history.seconds = time.monotonic() - self.started
        values = {
            "history": asdict(self.history),
            "seen": seen,
            "worse_in_a_row": self.choice.worse_in_a_row,
            "family_losses": self.family_losses,
            "random": {"seed": self.seed, "stage": self.stage, "next_step": self.history.steps},
            "torch": torch.__version__,
        }
        place = save_state(self.checkpoints, State(self.history.steps, tensors | {"sums": self.sums}, values))
        self.saved_at = time.monotonic()
        return place

    def _resume(self) -> None:
        """Goes on from the newest state, if there is one."""
        state = load_state(self.checkpoints) if self.checkpoints is not None and self.params.resume else None
        if state is None:
            return
        with torch.no_grad():
            for name, parameter in self.trained:
                parameter.copy_(state.tensors[f"weight:{name}"])
            self.sums.copy_(state.tensors["sums"])
        self.optimiser.restore(state.tensors, state.values["seen"], state.step)
        best = {name.removeprefix("best:"): t for name, t in state.tensors.items() if name.startswith("best:")}
        self.choice.weights = {name: tensor.to(self.device) for name, tensor in best.items()}
        self.history = History(**state.values["history"])
        self.choice.worse_in_a_row = state.values["worse_in_a_row"]
        self.family_losses = dict(state.values["family_losses"])
        self.started = time.monotonic() - self.history.seconds
        if distributed.rank():
            self.sums.zero_()  # the first process has those of all
        log.info("%s: goes on from step %d of %d", self.stage, state.step, self.num_steps)
