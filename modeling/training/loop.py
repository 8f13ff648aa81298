"""The training loop that `pretrain` and `train` share.

Trains the parameters whose `requires_grad` is set and returns a `TrainingLog`; the model keeps the weights of the best
checkpoint.
Trade-off: losses are summed on the device and read every 20 steps, so that no step waits for the device. A non-finite
loss is therefore detected up to 20 steps late.
"""

import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader

from features.errors import ParamsError, TrainingError
from features.runtime import torchrun
from features.runtime.progress import Progress
from features.runtime.seeds import stable_hash
from features.schema import FAMILIES
from modeling.config.training import LoopParams
from modeling.data.length_batching import Rows, StepSampler
from modeling.data.prompt_dataset import Batch, PromptDataset
from modeling.data.seen_item_mask import SeenItemMask
from modeling.data.span_noise import with_span_noise
from modeling.kernels.fused_modules import use_fused_modules
from modeling.models.token_loss import weight_of
from modeling.models.vip5 import VIP5, partly_trained
from modeling.runtime import distributed
from modeling.runtime.devices import autocast
from modeling.runtime.malloc import is_out_of_memory, tune_malloc
from modeling.runtime.random_state import seed_torch, seeded
from modeling.training.best_checkpoint import BestCheckpoint
from modeling.training.distillation import Teacher
from modeling.training.optimizer import TransformersAdamW, rate_share
from modeling.training.resume_state import State, load_state, save_state
from modeling.training.training_log import Stopped, TrainingLog, peak_memory_gb, progress_fields
from modeling.training.validation import Validator

log = logging.getLogger("vip5")
LOG_STEPS = 20  # steps between two rows of the curve


def fit(
    model: VIP5,
    train: PromptDataset,
    validator: Validator | None,
    params: LoopParams,
    *,
    seed: int,
    stage: str,
    checkpoints: Path | None = None,
    teacher: Teacher | None = None,
) -> TrainingLog:
    """Trains `model` in place, restores the weights of its best checkpoint and returns the log of the run.

    Args:
        model: parameters with `requires_grad` are trained.
        train: the train prompts of all rounds.
        validator: runs every `params.validation.every_steps` steps; None keeps the weights of the last step.
        params: settings of the loop.
        seed: determines the batches and the dropout, together with `stage`.
        stage: "pretrain" or "train": the label of the progress bar and part of every random stream's name.
        checkpoints: folder for states from which a killed run resumes; None writes no states.
        teacher: provides soft targets for rows of `train`.

    Raises:
        TrainingError: `train` is empty, memory runs out, or the loss is not finite.
    """
    if params.schedule.epochs == 0:
        return TrainingLog()
    if not len(train):
        raise TrainingError(f"no train prompts of {stage}.families {params.families}", "some", "add another family")
    tune_malloc()
    if params.objective.span_noise_rate:
        train = with_span_noise(train, params.objective.span_noise_rate, seed=seed, stage=stage)
    trainer = Trainer(model, train, validator, params, seed=seed, stage=stage, checkpoints=checkpoints, teacher=teacher)
    with seeded(seed, stage, "dropout"):
        return trainer.train()


class Trainer:
    """One training run; `fit` creates it with the random state set."""

    def __init__(
        self, model: VIP5, dataset: PromptDataset, validator: Validator | None, params: LoopParams, *, seed: int,
        stage: str, checkpoints: Path | None, teacher: Teacher | None,
    ) -> None:  # fmt: skip
        self.model, self.validator, self.params = model, validator, params
        self.seed, self.stage, self.checkpoints, self.teacher = seed, stage, checkpoints, teacher
        self.device = next(model.parameters()).device
        self.dataset = dataset.to(self.device)
        self.sampler = StepSampler(dataset, params, seed=seed, stage=stage)
        self.seen_item_mask = SeenItemMask(dataset) if params.objective.mask_seen_items else None
        self.trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        self.optimizer = TransformersAdamW(
            self.trainable,
            betas=(params.optimizer.betas[0], params.optimizer.betas[1]),
            eps=params.optimizer.eps,
            weight_decay=params.optimizer.weight_decay,
            decay_norms=params.optimizer.decay_norms,
            undecayed=partly_trained(model),
        )
        self.num_steps = min(len(self.sampler), params.schedule.max_steps or len(self.sampler))
        self.family_weights = [getattr(params.objective.family_weights, family) for family in FAMILIES]
        self.dropout_rng = (
            use_fused_modules(model.t5) if params.compute.kernels == "fused" and not params.compute.compile else None
        )
        if params.compute.compile:
            model.compile(dynamic=True)
        self.training_log = TrainingLog(planned=self.num_steps)
        self.best_checkpoint = BestCheckpoint(params.validation.checkpoint_metric, params.validation.patience)
        self.sums = torch.zeros(2, len(FAMILIES), device=self.device)
        self.family_losses: dict[str, float] = {}
        self.valid: dict[str, str] = {}
        self.saved_at = self.started = time.monotonic()

    def train(self) -> TrainingLog:
        """Resumes from the newest state, if any, takes the remaining steps and returns the log."""
        self._resume()
        self.sampler.start = self.training_log.steps
        loader = DataLoader(self.dataset, batch_sampler=self.sampler, collate_fn=list)
        limit = (
            None
            if self.params.schedule.max_seconds is None
            else self.params.schedule.max_seconds - self.training_log.seconds
        )
        with Progress(
            self.num_steps, self.stage, "steps", done=self.training_log.steps, limit=limit,
            hidden=torchrun.rank() > 0, keep=True,
        ) as bar:  # fmt: skip
            for (epoch, rows), batches in zip(self.sampler.steps(), loader, strict=True):
                self.training_log.seconds = self._seconds()
                rate = self.params.optimizer.learning_rate * rate_share(
                    self._progress(), self.params.schedule.warmup_share
                )
                self._step(rows, batches, rate)
                bar.update()
                stop_reason = self._stop_reason()
                due = self.training_log.steps % self.params.validation.every_steps == 0 or stop_reason is not None
                if due or self.training_log.steps % LOG_STEPS == 0:
                    self._record(epoch, rate, bar, evaluate=due)
                if stop_reason is None and self.best_checkpoint.is_out_of_patience:
                    stop_reason = "patience"
                if stop_reason is not None:
                    self.training_log.stopped = stop_reason
                    break
                self._save_if_due()
        self.training_log.seconds = self._seconds()
        self.training_log.peak_memory_gb = peak_memory_gb(self.device)
        if self.training_log.stopped == "max_seconds" and not torchrun.rank():
            log.warning("%s: %s", self.stage, self.training_log.early_stop_message())
        self.best_checkpoint.restore(self.trainable)
        self.model.eval()
        return self.training_log

    def _seconds(self) -> float:
        """Training seconds, including those before a resume; rank 0 decides where `max_seconds` is set."""
        seconds = time.monotonic() - self.started
        return (
            seconds if self.params.schedule.max_seconds is None else distributed.broadcast_from_rank0(lambda: seconds)
        )

    def _progress(self) -> float:
        """Completed share of the run: by steps, or by time if `max_seconds` is set and the share is larger."""
        done = (self.training_log.steps + 1) / (self.num_steps + 1)
        limit = self.params.schedule.max_seconds
        return done if limit is None else min(1.0, max(done, self.training_log.seconds / limit))

    def _step(self, rows: Rows, batches: list[Batch], rate: float) -> None:
        """One optimizer step on `rows`: sums the gradients of this process's `batches`, and of all processes."""
        stream = (self.seed, self.stage, "dropout", self.training_log.steps, torchrun.rank())
        seed_torch(*stream)
        if self.dropout_rng is not None:
            self.dropout_rng.seed(stable_hash(*stream, "bits"))
        self.model.train()
        loss_reduction, targets = self.params.objective.loss_reduction, self.dataset.targets.lengths
        normalizer = weight_of(targets[rows], self.dataset.families[rows], loss_reduction, self.family_weights)
        try:
            for batch in batches:
                soft = self.teacher.soft_targets(batch.rows, self.device) if self.teacher else None
                masked = self.seen_item_mask.of(batch.rows, self.device) if self.seen_item_mask else None
                with autocast(self.device, self.params.compute.dtype):
                    losses = self.model(batch, soft, masked)
                (losses.total(loss_reduction, self.family_weights) / normalizer).backward()
                self.sums += torch.stack(losses.by_family())
        except (RuntimeError, MemoryError) as error:
            if is_out_of_memory(error):
                raise self._out_of_memory() from None
            raise
        distributed.all_reduce_gradients(self.optimizer.parameters)
        self.optimizer.step(rate, self.params.optimizer.clip_norm)
        self.training_log.steps += 1
        self.training_log.examples += len(rows)
        lengths = self.dataset.lengths
        self.training_log.source_tokens += int(lengths[rows].sum())
        padding = sum(batch.input_ids.numel() - int(lengths[batch.rows].sum()) for batch in batches)
        self.training_log.slots += int(lengths[rows].sum()) + padding * torchrun.world()

    def _out_of_memory(self) -> TrainingError:
        self.optimizer.adam.zero_grad(set_to_none=True)
        return TrainingError(
            f"out of memory in step {self.training_log.steps + 1} of {self.stage}{self._saved_state()}",
            "microbatches that fit into memory",
            f"lower {self.stage}.batching.max_tokens_per_microbatch "
            f"(now {self.params.batching.max_tokens_per_microbatch})",
        )

    def _saved_state(self) -> str:
        """Saves the state, with the weights of the last valid step, and returns a note for the error message."""
        folder = self._save()
        return "" if folder is None else f" (the previous state is in {folder})"

    def _record(self, epoch: int, rate: float, bar: Progress, *, evaluate: bool) -> None:
        sums, counts = distributed.all_reduce_sum(self.sums).tolist()
        self.sums.zero_()
        if not np.isfinite(sums).all():
            raise TrainingError(
                f"a non-finite loss by step {self.training_log.steps} of {self.stage}{self._saved_state()}",
                "a finite loss",
                f"lower {self.stage}.optimizer.learning_rate (now {self.params.optimizer.learning_rate})",
            )
        mean = sum(sums) / sum(counts)
        self.family_losses |= {name: s / c for name, s, c in zip(FAMILIES, sums, counts, strict=True) if c}
        row: dict[str, Any] = {"step": self.training_log.steps, "epoch": epoch, "loss": mean}
        row |= {f"loss_{name}": self.family_losses.get(name) for name in FAMILIES}
        row["learning_rate"] = rate
        if evaluate and self.validator is not None:
            row |= self._evaluate(self.validator)
        self.training_log.rows.append(row)
        self.training_log.peak_memory_gb = peak_memory_gb(self.device)
        self.valid |= {"valid loss": f"{row['valid_loss']:.3f}"} if "valid_loss" in row else {}
        bar.show(loss=f"{mean:.3f}", **self.valid, **progress_fields(self.training_log, self.family_losses))

    def _evaluate(self, validator: Validator) -> dict[str, float]:
        metrics = distributed.broadcast_from_rank0(lambda: validator(self.model))
        try:
            improved = self.best_checkpoint.update(metrics, self.training_log.best, self.trainable)
        except ParamsError as error:
            raise ParamsError(f"{self.stage}.validation.{error.found}", error.expected, error.action) from None
        if improved:
            self.training_log.best, self.training_log.best_step = metrics, self.training_log.steps
        return metrics

    def _stop_reason(self) -> Stopped | None:
        """Why the run stops after this step; None if it continues."""
        if self.training_log.steps == self.num_steps:
            return "max_steps" if self.num_steps == self.params.schedule.max_steps else "finished"
        limit = self.params.schedule.max_seconds
        return "max_seconds" if limit is not None and self.training_log.seconds >= limit else None

    def _save_if_due(self) -> None:
        steps, seconds = self.params.checkpoint.every_steps, self.params.checkpoint.every_seconds
        overdue = seconds is not None and distributed.broadcast_from_rank0(
            lambda: time.monotonic() - self.saved_at >= seconds
        )
        if self.checkpoints is None or not (overdue or (steps is not None and self.training_log.steps % steps == 0)):
            return
        distributed.all_reduce_sum(self.sums)
        if torchrun.rank():
            self.sums.zero_()
        self._save()

    def _save(self) -> Path | None:
        """Writes the state between two steps; only rank 0 writes."""
        if self.checkpoints is None or torchrun.rank():
            return None
        tensors, seen = self.optimizer.moments()
        tensors |= {f"weight:{name}": parameter for name, parameter in self.trainable}
        tensors |= {f"best:{name}": weight for name, weight in self.best_checkpoint.weights.items()}
        self.training_log.seconds = time.monotonic() - self.started
        values = {
            "history": asdict(self.training_log),
            "seen": seen,
            "worse_in_a_row": self.best_checkpoint.worse_in_a_row,
            "family_losses": self.family_losses,
            "random": {"seed": self.seed, "stage": self.stage, "next_step": self.training_log.steps},
            "torch": torch.__version__,
        }
        folder = save_state(self.checkpoints, State(self.training_log.steps, tensors | {"sums": self.sums}, values))
        self.saved_at = time.monotonic()
        return folder

    def _resume(self) -> None:
        """Restores the newest state, if there is one."""
        state = load_state(self.checkpoints) if self.checkpoints is not None and self.params.checkpoint.resume else None
        if state is None:
            return
        with torch.no_grad():
            for name, parameter in self.trainable:
                parameter.copy_(state.tensors[f"weight:{name}"])
            self.sums.copy_(state.tensors["sums"])
        self.optimizer.restore(state.tensors, state.values["seen"], state.step)
        best = {name.removeprefix("best:"): t for name, t in state.tensors.items() if name.startswith("best:")}
        self.best_checkpoint.weights = {name: tensor.to(self.device) for name, tensor in best.items()}
        self.training_log = TrainingLog(**state.values["history"])
        self.best_checkpoint.worse_in_a_row = state.values["worse_in_a_row"]
        self.family_losses = dict(state.values["family_losses"])
        self.started = time.monotonic() - self.training_log.seconds
        if torchrun.rank():
            self.sums.zero_()  # rank 0 holds the sums of all processes
        log.info("%s: resuming from step %d of %d", self.stage, state.step, self.num_steps)
