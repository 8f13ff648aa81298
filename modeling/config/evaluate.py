"""Parameters of the stage `evaluate`."""

from dataclasses import dataclass, field
from typing import Literal

from modeling.config.sasrec import SasRecParams
from modeling.config.settings import RidgeParams


@dataclass(frozen=True, kw_only=True)
class Params:
    """Parameters of the stage `evaluate`."""

    decoding: Literal["constrained", "unconstrained"] = "constrained"
    """constrained: existing, unseen items by a prefix tree, direct by exact likelihood; unconstrained: as the paper."""
    beam: int = 20
    """Beams a user; without effect where identifiers are one token (the whole catalogue is then ranked exactly)."""
    top_k: int = 20
    """Items kept a user and prompt."""
    batch_size: int = 64
    """Users a batch at most."""
    tokens_per_batch: int = 8192
    """Source tokens a batch at most, padding included; attention over more is slower on a CPU, faster on a GPU."""
    prompts: tuple[str, ...] = ()
    """Prompt ids to evaluate, such as [A-3, B-5]; empty for all that the test tables hold."""
    ablation_prompts: tuple[str, ...] = ("A-3", "A-9", "B-5", "C-3")
    """Which of them VIP5 without photos and the backbone answer too; empty for all."""
    max_users: int | None = None
    """Users drawn by the seed, for a quick look; null for all."""
    bootstrap_resamples: int = 1000
    """Resamples of the users behind every 95 % interval; 0 leaves intervals out."""
    recent_share: float = 0.1
    """Share of the newest train interactions that the baseline recent_popularity counts."""
    sasrec: SasRecParams | None = field(default_factory=SasRecParams)
    """The baseline that is trained in the same run; null leaves it out."""
    ridge: RidgeParams | None = field(default_factory=RidgeParams)
    """The baseline that is solved in closed form in the same run; null leaves it out."""
    max_copied_share: float = 0.05
    """Share of a family's test prompts that may be word for word in train (a person who pastes one review under several
    items); above it the family is called leaking. A prompt about the same user and item counts whatever its share."""
    explanation_max_tokens: int = 32
    """Longest generated explanation, tokens, </s> included (the paper's saved run: 20)."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or cuda:N."""
    num_threads: int | None = None
    """CPU threads; null leaves torch's choice."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the models' passes; bfloat16 pays on hardware that has units for it."""

    def __post_init__(self) -> None:
        for name in ("beam", "top_k", "batch_size", "tokens_per_batch", "explanation_max_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.max_users is not None and self.max_users < 1:
            raise ValueError("max_users must be at least 1, or null")
        if self.bootstrap_resamples < 0 or not 0 < self.recent_share <= 1:
            raise ValueError("bootstrap_resamples must be at least 0 and recent_share in (0, 1]")
        if not 0 <= self.max_copied_share <= 1:
            raise ValueError("max_copied_share must lie in [0, 1]")
