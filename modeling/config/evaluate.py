"""Parameters of the stage `evaluate`."""

from dataclasses import dataclass, field
from typing import Literal

from modeling.config.model import RidgeParams
from modeling.config.sasrec import SasRecParams


@dataclass(frozen=True, kw_only=True)
class SentenceParams:
    """Parameters of the generation of explanations."""

    beams: int = 1
    """Beams per row, and per number of matched tokens of a required word; 1 is greedy."""
    min_tokens: int = 1
    """Minimum length of a sentence, tokens without </s>; the paper has no minimum (0)."""
    max_tokens: int = 32
    """Maximum length of a sentence, tokens, </s> included (the paper's saved run: 20)."""
    length_exponent: float = 1.0
    """Exponent of the length by which the log-probability of a finished sentence is divided."""
    forbid_repeated_pairs: bool = True
    """Whether a sentence has no pair of successive tokens twice."""
    samples: int = 0
    """Sentences sampled per row, of which the one most like the others is taken (minimum Bayes risk), the sentence of
    the beam search included; 0 takes the sentence of the beam search."""
    temperature: float = 0.7
    """Divisor of the logits of samples; below 1 likely words become more likely."""
    require_feature: bool = True
    """Whether a sentence must contain, as a whole word, the feature word that its prompt names."""

    def __post_init__(self) -> None:
        if self.beams < 1 or self.length_exponent < 0:
            raise ValueError("beams must be at least 1 and length_exponent at least 0")
        if self.samples < 0 or self.temperature <= 0:
            raise ValueError("samples must be at least 0 and temperature above 0")
        if not 0 <= self.min_tokens < self.max_tokens:
            raise ValueError("min_tokens must be at least 0 and below max_tokens")


@dataclass(frozen=True, kw_only=True)
class Params:
    """Parameters of the stage `evaluate`."""

    decoding: Literal["constrained", "unconstrained"] = "constrained"
    """constrained: prefix tree of unseen items, exact likelihood for direct; unconstrained: as in the paper."""
    beam: int = 20
    """Beams per user; ignored for one-token identifiers, for which the whole catalogue is ranked exactly."""
    top_k: int = 20
    """Items kept per user and prompt."""
    batch_size: int = 64
    """Maximum number of users per batch."""
    tokens_per_batch: int = 8192
    """Maximum source tokens per batch, padding included; larger batches are slower on a CPU and faster on a GPU."""
    prompts: tuple[str, ...] = ()
    """Prompts to evaluate, such as [A-3, B-5]; empty for all in the test tables."""
    ablation_prompts: tuple[str, ...] = ("A-3", "A-9", "B-5", "C-3")
    """Prompts on which VIP5 without photos and the backbone are evaluated too; empty for all."""
    max_users: int | None = None
    """Number of users, sampled by the seed, for a quick evaluation; null for all."""
    bootstrap_resamples: int = 1000
    """Bootstrap resamples for the 95 % intervals; 0 omits the intervals."""
    recent_share: float = 0.1
    """Share of the newest train interactions that the recent_popularity baseline counts."""
    sasrec: SasRecParams | None = field(default_factory=SasRecParams)
    """Parameters of the SASRec baseline; null skips it."""
    ridge: RidgeParams | None = field(default_factory=RidgeParams)
    """Parameters of the ridge regression (EASE) baseline; null skips it."""
    max_copied_share: float = 0.05
    """Maximum share of a family's test prompts that occur verbatim in train, as from one review pasted under several
    items; above it the family is reported as leaking. A copy with the same user and item is always a leak."""
    explanations: SentenceParams = field(default_factory=SentenceParams)
    """Generation of explanations."""
    paper_metrics: bool = False
    """Whether `evaluate.json` also holds the metrics of VIP5 as the reference implementation computes them: ranks of
    generated integers, BLEU on characters, ROUGE on distinct n-grams. Requires `identifiers.scheme: number`."""
    device: str = "auto"
    """auto (a GPU if available), cpu, cuda or cuda:N."""
    num_threads: int | None = None
    """CPU threads; null uses torch's default."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the forward passes; bfloat16 is faster only on hardware that supports it."""

    def __post_init__(self) -> None:
        for name in ("beam", "top_k", "batch_size", "tokens_per_batch"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        if self.max_users is not None and self.max_users < 1:
            raise ValueError("max_users must be at least 1, or null")
        if self.bootstrap_resamples < 0 or not 0 < self.recent_share <= 1:
            raise ValueError("bootstrap_resamples must be at least 0 and recent_share in (0, 1]")
        if not 0 <= self.max_copied_share <= 1:
            raise ValueError("max_copied_share must lie in [0, 1]")
