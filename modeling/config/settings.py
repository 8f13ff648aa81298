"""What can be turned in the model and its training: sections of `params.yaml` that several stages share.

Enters: nothing. Leaves: frozen dataclasses; no torch, so that `--help` stays quick.
Trade-off: one file for four small settings, because `pretrain` and `train` nest the same ones.
"""

from dataclasses import dataclass, field
from typing import Literal

from features.schema import FAMILIES


@dataclass(frozen=True, kw_only=True)
class Scratch:
    """Size of a T5 made from nothing; the defaults are T5-small's."""

    d_model: int = 512
    """Width of every token vector."""
    d_ff: int = 2048
    """Width inside the feed-forward sub-layers."""
    num_heads: int = 8
    """Attention heads."""
    d_kv: int = 64
    """Width of one head."""
    num_layers: int = 6
    """Encoder blocks."""
    num_decoder_layers: int = 6
    """Decoder blocks."""
    feed_forward_proj: str = "relu"
    """Feed-forward kind: relu (T5) or gated-gelu (T5 1.1)."""
    embedding_scale: float = 1.0
    """Standard deviation of the fresh token embeddings (T5: 1.0); small models learn faster from less."""
    start: Literal["noise", "pass_through", "recent"] = "noise"
    """noise: T5's own; pass_through: sub-layers add nothing and the decoder reads the mean of the encoder's input;
    recent: the same, but it reads the mean of the items that the prompt names, the last ones most."""

    def __post_init__(self) -> None:
        if self.embedding_scale <= 0:
            raise ValueError("embedding_scale must be above 0")
        for name in ("d_model", "d_ff", "num_heads", "d_kv", "num_layers", "num_decoder_layers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")


@dataclass(frozen=True, kw_only=True)
class BackboneParams:
    """The language model under VIP5: exactly one of `name` and `scratch`."""

    name: str | None = None
    """A local folder with a T5 in safetensors, or a hub id such as t5-small (only then is a network used)."""
    scratch: Scratch | None = None
    """Size of a T5 made from nothing."""
    tokenizer: str | None = None
    """Folder with a tokenizer.json; null takes the one beside `name`, or trains one on the train prompts."""
    vocabulary_size: int = 2000
    """Pieces of a tokenizer trained here, 100 sentinels not counted."""
    max_source_tokens: int = 1024
    """Longest encoder input, tokens; at most 1,024 (the whole-word table)."""
    max_target_tokens: int = 64
    """Longest decoder output in training, tokens; longer ones are cut."""
    truncate: Literal["never", "oldest", "end"] = "never"
    """A source that is too long: never (an error; the prompts stage caps histories), oldest (next-item prompts lose
    their oldest items, others are an error) or end (the paper's cut, which loses the newest items and the question)."""

    def __post_init__(self) -> None:
        if (self.name is None) == (self.scratch is None):
            raise ValueError("exactly one of name and scratch must be set")
        if not 16 <= self.max_source_tokens <= 1024:
            raise ValueError("max_source_tokens must be between 16 and 1024")
        if self.max_target_tokens < 2 or self.vocabulary_size < 100:
            raise ValueError("max_target_tokens must be at least 2 and vocabulary_size at least 100")


@dataclass(frozen=True, kw_only=True)
class AdapterParams:
    """What is put on a frozen backbone: bottlenecks on every sub-layer (the paper), or low-rank updates (LoRA)."""

    kind: Literal["bottleneck", "lora"] = "bottleneck"
    """bottleneck: down, GELU, up after each sub-layer; lora: down, up beside the query and value projections."""
    reduction: int = 8
    """Width of the model divided by the width of the bottleneck, or by the rank."""
    init: Literal["near_identity", "linear"] = "near_identity"
    """Start with up = 0, so that the first step is the backbone's, or with torch's Linear default as the paper does."""
    routing: Literal["single", "per_family"] = "single"
    """One adapter for all tasks, or one a prompt family, chosen by each row's own family."""
    cross_attention: bool = True
    """Whether the decoder's cross-attention has adapters too."""
    lora_scale: float = 2.0
    """lora: what its update is multiplied by (alpha / rank)."""

    def __post_init__(self) -> None:
        if self.reduction < 1:
            raise ValueError("reduction must be at least 1")
        if self.lora_scale <= 0:
            raise ValueError("lora_scale must be above 0")


@dataclass(frozen=True, kw_only=True)
class RidgeParams:
    """The ridge regression over items."""

    penalty: float = 100.0
    """Added to the squared numbers of buyers: how far weights are drawn to 0."""
    word_weight: float = 1.0
    """How much a title word counts, as a user who bought the items whose titles have it; 0 leaves titles out."""
    decay: float = 0.7
    """Weight of an item of a history beside the one bought after it."""
    sharpness: float = 4.0
    """As a teacher: power of the scores before they become shares; at 1 the many small ones weigh most."""
    max_items: int = 20000
    """A larger catalogue goes without (its matrix would be above 1.6 GB)."""

    def allows(self, num_items: int) -> bool:
        """Whether a catalogue is small enough."""
        return num_items <= self.max_items

    def __post_init__(self) -> None:
        if self.sharpness <= 0:
            raise ValueError("sharpness must be above 0")
        if self.penalty <= 0 or self.word_weight < 0 or not 0 < self.decay <= 1:
            raise ValueError("penalty must be above 0, word_weight at least 0 and decay in (0, 1]")


@dataclass(frozen=True, kw_only=True)
class TeacherParams:
    """A closed-form model that a next-item prompt is answered by as well, beside the item that was bought."""

    share: float = 0.0
    """Of the loss of a next-item answer, the part that asks for the teacher's odds."""
    vector_steps: int = 0
    """Steps in which the item vectors alone are fitted to the teacher before the T5 trains; for `start: recent`."""
    ridge: RidgeParams = field(default_factory=RidgeParams)
    """The teacher."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError("share must lie in [0, 1]")
        if self.vector_steps < 0:
            raise ValueError("vector_steps must be at least 0")

    @property
    def is_asked(self) -> bool:
        """Whether there is a teacher at all."""
        return self.share > 0 or self.vector_steps > 0


RUN_ONLY = ("max_seconds", "device", "num_threads", "checkpoint_steps", "checkpoint_seconds", "resume")
"""Settings of a loop that do not say which model is trained: a state is found again when they change."""


@dataclass(frozen=True, kw_only=True)
class LoopParams:
    """One training run."""

    epochs: int = 1
    """Passes over a round of the train prompts; epoch e uses round e modulo the number of rounds. 0 trains nothing."""
    max_steps: int | None = None
    """Optimiser steps at most; the learning rate then falls to 0 over these."""
    max_seconds: float | None = None
    """Seconds at most; training stops cleanly, at a step that depends on the machine."""
    batch_size: int = 32
    """Examples an optimiser step."""
    mixing: Literal["random", "lengths"] = "random"
    """random: every step has the epoch's mix of families, in several passes of like length whose gradients add up;
    lengths: a step is of like length and one pass, which is quicker where the model is tiny."""
    tokens_per_batch: int | None = None
    """Source tokens in one pass at most, padding included; a longer step is several passes. null means no limit."""
    learning_rate: float = 1e-3
    """Highest learning rate, reached after the warm-up."""
    warmup_share: float = 0.1
    """Share of the steps in which the learning rate rises; it falls linearly afterwards."""
    betas: tuple[float, ...] = (0.9, 0.999)
    """Adam's two decay rates."""
    eps: float = 1e-6
    """Adam's eps, added to the root of the uncorrected second moment."""
    weight_decay: float = 0.01
    """Decoupled decay, times the learning rate; never on biases."""
    decay_norms: bool = False
    """Whether layer norm weights decay too, as in the paper."""
    clip_norm: float = 5.0
    """Largest global norm of the gradient."""
    dropout: float = 0.1
    """Share of activations dropped in the backbone's sub-layers."""
    weighting: Literal["tokens", "examples", "paper"] = "tokens"
    """Mean over target tokens, mean over examples of their mean, or the latter times 1 / target length (paper)."""
    family_weights: dict[str, float] = field(default_factory=lambda: dict.fromkeys(FAMILIES, 1.0))
    """How much an example (under tokens: a target token) of each family counts in that mean."""
    leave_out_named: bool = False
    """Whether a next-item answer is learned among the items that its prompt does not name, as it is evaluated."""
    word_noise: float = 0.0
    """Share of the stretches of words (before, between and behind items) of next-item prompts that training leaves out
    or replaces by others; for wordings that it does not show."""
    valid_rows: int = 512
    """Rows a family of the valid prompts, drawn once by the seed, on which every measurement is made; 0 for none."""
    measure_every: int = 200
    """Steps between two measurements; the last step is always measured."""
    select_by: Literal["loss", "hr@10", "last"] = "loss"
    """Which measured step is kept: lowest valid loss, highest HR@10 (one-token identifiers only) or the last."""
    patience: int | None = None
    """Measurements without a better one before training stops early; null never stops early."""
    device: str = "auto"
    """auto (a GPU where there is one), cpu, cuda or cuda:N."""
    num_threads: int | None = None
    """CPU threads; null leaves torch's choice."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the forward pass; weights and optimiser stay float32."""
    kernels: Literal["quick", "stock"] = "quick"
    """quick: own dropout, norms and attention on a CPU, torch's fused ones on a GPU, the same function; stock: the
    library's."""
    compile: bool = False
    """Whether torch compiles the model (kernels are stock then): minutes at the start, for a GPU and long runs."""
    checkpoint_steps: int | None = None
    """Steps between two states written to work/checkpoints; null writes by time alone."""
    checkpoint_seconds: float | None = 300.0
    """Seconds between two states; null writes by steps alone."""
    resume: bool = True
    """Whether a run with the same parameters and inputs goes on from the state that a killed one left."""

    def __post_init__(self) -> None:
        ranges = {
            "epochs must be at least 0": self.epochs >= 0,
            "batch_size must be at least 1": self.batch_size >= 1,
            "word_noise must lie in [0, 1)": 0 <= self.word_noise < 1,
            "max_steps must be at least 1": self.max_steps is None or self.max_steps >= 1,
            "max_seconds must be above 0": self.max_seconds is None or self.max_seconds > 0,
            "tokens_per_batch must be at least 1": self.tokens_per_batch is None or self.tokens_per_batch >= 1,
            "learning_rate must be above 0": self.learning_rate > 0,
            "warmup_share must lie in [0, 1]": 0 <= self.warmup_share <= 1,
            "betas must be two numbers in [0, 1)": len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas),
            "clip_norm must be above 0": self.clip_norm > 0,
            "checkpoint_steps must be at least 1": self.checkpoint_steps is None or self.checkpoint_steps >= 1,
            "checkpoint_seconds must be above 0": self.checkpoint_seconds is None or self.checkpoint_seconds > 0,
            f"family_weights must name {', '.join(FAMILIES)}, each above 0": set(self.family_weights) == set(FAMILIES)
            and all(weight > 0 for weight in self.family_weights.values()),
            "dropout must lie in [0, 1)": 0 <= self.dropout < 1,
            "valid_rows must be at least 0": self.valid_rows >= 0,
            "measure_every must be at least 1": self.measure_every >= 1,
            "patience must be at least 1": self.patience is None or self.patience >= 1,
        }
        for rule, holds in ranges.items():
            if not holds:
                raise ValueError(rule)


@dataclass(frozen=True, kw_only=True)
class VisionParams:
    """How photos enter the model."""

    width: int
    """Numbers in an image feature, read from the table."""
    num_visual_tokens: int
    """Visual tokens a photo."""
    missing_photo: Literal["learned", "zeros"] = "learned"
    """What stands for a photo that is not there: learned vectors, or the projection of a feature of zeros (paper)."""
    standardise: bool = False
    """Whether features are centred and scaled by the catalogue's mean and spread before the projector."""
