"""The log of a training run: rows of the loss curve, final metrics and fields of the progress bar.

Holds plain values only, so that a checkpoint stores the log as JSON and restores it unchanged.
"""

import resource
import sys
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

Stopped = Literal["finished", "max_steps", "max_seconds", "patience"]


@dataclass(kw_only=True)
class TrainingLog:
    """`rows` make the curve file; the other fields make the metrics file."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    steps: int = 0
    planned: int = 0
    """Steps of the complete run, without early stopping or a time limit."""
    examples: int = 0
    source_tokens: int = 0
    slots: int = 0
    """Source positions processed by the model, including padding."""
    seconds: float = 0.0
    stopped: Stopped = "finished"
    best_step: int = 0
    best: dict[str, float] = field(default_factory=dict)
    peak_memory_gb: float = 0.0

    @property
    def padding_share(self) -> float:
        """Padding as a share of the source positions."""
        return 1 - self.source_tokens / self.slots if self.slots else 0.0

    @property
    def speed(self) -> float:
        """Source tokens per second."""
        return self.source_tokens / max(1e-9, self.seconds)

    def early_stop_message(self) -> str:
        """The warning for a run that reached its time limit.

        Example: "training stopped at its time limit (max_seconds) after step 115 of 272"
        """
        return f"training stopped at its time limit (max_seconds) after step {self.steps:,} of {self.planned:,}"

    def ending(self) -> dict[str, Any]:
        """The entries of the model's manifest that describe how the run ended."""
        return {"stopped": self.stopped, "steps": self.steps, "planned_steps": self.planned}


def peak_memory_gb(device: torch.device) -> float:
    """Peak memory in GB: of the GPU if `device` is one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 2**10  # macOS reports bytes, Linux kilobytes
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def progress_fields(training_log: TrainingLog, family_losses: dict[str, float]) -> dict[str, str]:
    """Fields shown beside the progress bar: losses by family, tokens per second, padding and memory."""
    return {name: f"{loss:.2f}" for name, loss in family_losses.items()} | {
        "tokens/s": f"{training_log.speed:,.0f}",
        "padding": f"{training_log.padding_share:.1%}",
        "GB": f"{training_log.peak_memory_gb:.1f}",
    }
