"""What happened in a training run, for the curve, the metrics and the progress bar.

Enters: numbers of the loop. Leaves: a `History`, and the words beside the bar.
Trade-off: plain values throughout, so that a history goes into a checkpoint as JSON and comes back equal.
"""

import resource
import sys
from dataclasses import dataclass, field
from typing import Any, Literal

import torch

Stopped = Literal["finished", "max_steps", "max_seconds", "patience"]


@dataclass(kw_only=True)
class History:
    """What happened: `rows` for the curve file, the rest for the metrics file."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    steps: int = 0
    planned: int = 0
    """Steps that the run would take if nothing ended it before."""
    examples: int = 0
    source_tokens: int = 0
    slots: int = 0
    """Source positions that went through the model, padding included."""
    seconds: float = 0.0
    stopped: Stopped = "finished"
    best_step: int = 0
    best: dict[str, float] = field(default_factory=dict)
    peak_memory_gb: float = 0.0

    @property
    def padding_share(self) -> float:
        """Share of the positions that were padding."""
        return 1 - self.source_tokens / self.slots if self.slots else 0.0

    @property
    def speed(self) -> float:
        """Source tokens a second."""
        return self.source_tokens / max(1e-9, self.seconds)

    def ended_early(self) -> str:
        """What to say of a run that its time limit ended.

        Example: "training was ended by its time limit (max_seconds) at step 115 of 272"
        """
        return f"training was ended by its time limit (max_seconds) at step {self.steps:,} of {self.planned:,}"

    def ending(self) -> dict[str, Any]:
        """How the run ended, as the model's manifest remembers it."""
        return {"stopped": self.stopped, "steps": self.steps, "planned_steps": self.planned}


def peak_memory_gb(device: torch.device) -> float:
    """The most memory taken so far, in GB: of the GPU where there is one, else of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    unit = 1 if sys.platform == "darwin" else 2**10  # bytes there, kilobytes elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def beside_the_bar(history: History, family_losses: dict[str, float]) -> dict[str, str]:
    """Losses by family, speed, padding and memory."""
    return {name: f"{loss:.2f}" for name, loss in family_losses.items()} | {
        "tokens/s": f"{history.speed:,.0f}",
        "padding": f"{history.padding_share:.1%}",
        "GB": f"{history.peak_memory_gb:.1f}",
    }
