"""Parameters of the section `prompts` that also apply when a model is served."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class HistoryParams:
    """Templates, and the part of a history that a prompt shows."""

    templates: str | None = None
    """YAML file of prompt templates; null for features/prompts/prompts.yaml."""
    max_history: int | None = 10
    """Maximum number of items in a history; null for all."""
    history_kept: Literal["newest", "oldest"] = "newest"
    """Which end of a longer history is kept."""
