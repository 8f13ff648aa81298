"""Parameters of the model and its teacher, which several sections of `params.yaml` share.

Defines frozen dataclasses and imports no torch, so that `--help` answers quickly.
"""

from dataclasses import dataclass, field
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """Size of a T5 trained from scratch; the defaults are those of T5-small."""

    d_model: int = 512
    """Width of the token embeddings and hidden states."""
    d_ff: int = 2048
    """Width of the feed-forward layers."""
    num_heads: int = 8
    """Number of attention heads."""
    d_kv: int = 64
    """Width of each attention head."""
    num_layers: int = 6
    """Number of encoder blocks."""
    num_decoder_layers: int = 6
    """Number of decoder blocks."""
    feed_forward_proj: str = "relu"
    """Activation of the feed-forward layers: relu (T5) or gated-gelu (T5 1.1)."""
    embedding_scale: float = 1.0
    """Standard deviation of the initial token embeddings (T5: 1.0); small models learn faster with less. The decoder's
    final norm starts at the reciprocal, so that the tied output layer has the logits of T5's initialisation."""
    init: Literal["default", "identity", "recency"] = "default"
    """default: T5's initialisation. identity: residual branches start at zero and the decoder reads the mean of the
    encoder input. recency: as identity, but the decoder reads a recency-weighted mean of the prompt's items."""

    def __post_init__(self) -> None:
        if self.embedding_scale <= 0:
            raise ValueError("embedding_scale must be above 0")
        for name in ("d_model", "d_ff", "num_heads", "d_kv", "num_layers", "num_decoder_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class BackboneParams:
    """The language model of VIP5; set exactly one of `name` and `scratch`."""

    name: str | None = None
    """A local folder with a T5 or mT5 in safetensors, or a hub id such as t5-small (requires network access)."""
    scratch: Scratch | None = None
    """Size of a T5 trained from scratch."""
    tokenizer: str | None = None
    """Folder with a tokenizer.json; null uses the tokenizer in `name`, or trains one on the train prompts."""
    vocabulary_size: int = 2000
    """Vocabulary size of a tokenizer trained on the prompts, without its 100 sentinels."""
    max_source_tokens: int = 1024
    """Maximum encoder input, in tokens; at most 1,024, the size of the whole-word embedding."""
    max_target_tokens: int = 64
    """Maximum target length in training, in tokens; longer targets are truncated."""
    truncate: Literal["never", "oldest", "end"] = "never"
    """How a source that is too long is truncated. never: raise an error (the prompts stage caps histories). oldest:
    drop the oldest items of next-item prompts, else raise an error. end: cut the end off, as in the paper, which
    loses the newest items and the question."""

    def __post_init__(self) -> None:
        if (self.name is None) == (self.scratch is None):
            raise ValueError("exactly one of name and scratch must be set")
        if not 16 <= self.max_source_tokens <= 1024:
            raise ValueError("max_source_tokens must be between 16 and 1024")
        if self.max_target_tokens < 2 or self.vocabulary_size < 100:
            raise ValueError("max_target_tokens must be at least 2 and vocabulary_size at least 100")


@dataclass(frozen=True, kw_only=True)
class AdapterParams:
    """Adapters of the frozen backbone: bottlenecks on every sub-layer (the paper), or low-rank updates (LoRA)."""

    kind: Literal["bottleneck", "lora"] = "bottleneck"
    """bottleneck: down-projection, GELU, up-projection after each sub-layer. lora: low-rank updates of the query and
    value projections."""
    reduction: int = 8
    """Model width divided by the bottleneck width, or by the rank."""
    init: Literal["near_identity", "linear"] = "near_identity"
    """near_identity: up-projections start at zero, so that the initial model equals the backbone. linear: torch's
    default for Linear, as in the paper."""
    routing: Literal["single", "per_family"] = "per_family"
    """single: one adapter for all tasks (the paper). per_family: one adapter per prompt family,
    selected for each row."""
    cross_attention: bool = True
    """Whether the decoder's cross-attention has adapters."""
    lora_scale: float = 2.0
    """lora: factor of the update (alpha / rank)."""

    def __post_init__(self) -> None:
        if self.reduction < 1:
            raise ValueError("reduction must be at least 1")
        if self.lora_scale <= 0:
            raise ValueError("lora_scale must be above 0")


@dataclass(frozen=True, kw_only=True)
class RidgeParams:
    """The item-item ridge regression (EASE), used as a baseline and as a teacher."""

    penalty: float = 100.0
    """L2 penalty, added to the diagonal of the item-item Gram matrix."""
    word_weight: float = 1.0
    """Weight of a title word, treated as a user who bought all items with the word; 0 ignores titles."""
    decay: float = 0.7
    """Weight of each item of a history relative to the next newer item."""
    inverse_temperature: float = 4.0
    """For distillation: exponent applied to scores before they are normalised to probabilities."""
    max_items: int = 20000
    """Largest catalogue for which the regression is fitted (a dense float32 matrix of 1.6 GB)."""

    def allows(self, num_items: int) -> bool:
        """Returns whether a catalogue of `num_items` is small enough."""
        return num_items <= self.max_items

    def __post_init__(self) -> None:
        if self.inverse_temperature <= 0:
            raise ValueError("inverse_temperature must be above 0")
        if self.penalty <= 0 or self.word_weight < 0 or not 0 < self.decay <= 1:
            raise ValueError("penalty must be above 0, word_weight at least 0 and decay in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class TeacherParams:
    """Distillation from a closed-form model into next-item prompts, in addition to the purchased item."""

    distillation_weight: float = 0.0
    """Weight of the teacher's probabilities in the loss of a next-item prompt, from 0 (off) to 1."""
    embedding_distillation_steps: int = 0
    """Steps of fitting only the item embeddings to the teacher before training the T5; for `init: recency`."""
    ridge: RidgeParams = field(default_factory=RidgeParams)
    """The regression used as the teacher."""

    def __post_init__(self) -> None:
        if not 0 <= self.distillation_weight <= 1:
            raise ValueError("distillation_weight must lie in [0, 1]")
        if self.embedding_distillation_steps < 0:
            raise ValueError("embedding_distillation_steps must be at least 0")

    @property
    def is_enabled(self) -> bool:
        """Whether a teacher is used."""
        return self.distillation_weight > 0 or self.embedding_distillation_steps > 0


@dataclass(frozen=True, kw_only=True)
class VisionParams:
    """The visual projector of the model."""

    width: int
    """Width of an image feature, from the table."""
    num_visual_tokens: int
    """Visual tokens per photo."""
    missing_photo: Literal["learned", "zeros"] = "learned"
    """Replacement of a missing photo: learned vectors, or the projection of a zero feature (the paper)."""
    standardise: bool = False
    """Whether features are standardised by the mean and standard deviation of the catalogue."""
