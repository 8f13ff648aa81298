"""One sentence of a verdict and its state."""

from dataclasses import dataclass
from typing import Literal

State = Literal["good", "weak", "bad"]
STATES: tuple[State, ...] = ("good", "weak", "bad")


@dataclass(frozen=True)
class Finding:
    """One sentence and its state: good, weak or bad."""

    state: State
    text: str
