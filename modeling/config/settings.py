"""Parameters of the model and its training, which several sections of `params.yaml` share.

Defines frozen dataclasses and imports no torch, so that `--help` answers quickly.
"""

from dataclasses import dataclass, field
from typing import Literal

from features.schema import FAMILIES


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
    """Standard deviation of the initial token embeddings (T5: 1.0); small models learn faster with less."""
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
    """A local folder with a T5 in safetensors, or a hub id such as t5-small (requires network access)."""
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
    routing: Literal["single", "per_family"] = "single"
    """single: one adapter for all tasks. per_family: one adapter per prompt family, selected for each row."""
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


RUN_ONLY = ("max_seconds", "device", "num_threads", "checkpoint_steps", "checkpoint_seconds", "resume")
"""Settings of a loop that do not affect the trained model; changing them does not prevent resuming."""


@dataclass(frozen=True, kw_only=True)
class LoopParams:
    """Settings of one training run."""

    epochs: int = 1
    """Number of epochs; epoch e uses round e of the train prompts, modulo the number of rounds. 0 skips training."""
    max_steps: int | None = None
    """Maximum number of optimizer steps, over which the learning rate decays to 0; null for no limit."""
    max_seconds: float | None = None
    """Maximum training time in seconds; the step at which training stops depends on the machine. null for no limit."""
    batch_size: int = 32
    """Examples per optimizer step."""
    batching: Literal["shuffled", "length_bucketed"] = "shuffled"
    """shuffled: each step samples from the whole epoch and accumulates gradients over microbatches of similar length.
    length_bucketed: each step is one batch of examples of similar length, which is faster for tiny models."""
    max_tokens_per_microbatch: int | None = None
    """Maximum number of source tokens per microbatch, including padding; null for no limit."""
    learning_rate: float = 1e-3
    """Maximum learning rate, reached after warm-up."""
    warmup_share: float = 0.1
    """Share of the steps used for linear warm-up; linear decay follows."""
    betas: tuple[float, ...] = (0.9, 0.999)
    """Adam's two decay rates."""
    eps: float = 1e-6
    """Adam's eps, added to the root of the uncorrected second moment."""
    weight_decay: float = 0.01
    """Decoupled weight decay, multiplied by the learning rate; biases never decay."""
    decay_norms: bool = False
    """Whether weight decay applies to layer norm weights, as in the paper."""
    clip_norm: float = 5.0
    """Maximum global norm of the gradients."""
    dropout: float = 0.1
    """Dropout probability in the backbone."""
    loss_reduction: Literal["tokens", "examples", "paper"] = "tokens"
    """tokens: mean over target tokens. examples: mean over examples of their mean token loss. paper: as examples, with
    each example weighted by 1 / target length."""
    family_weights: dict[str, float] = field(default_factory=lambda: dict.fromkeys(FAMILIES, 1.0))
    """Weight of each family's examples (target tokens, with `loss_reduction: tokens`) in the mean."""
    mask_seen_items: bool = False
    """Whether the training softmax masks items already in the prompt, as evaluation does."""
    span_noise_rate: float = 0.0
    """Share of the text spans (before, between and after items) of next-item prompts that are dropped or replaced by
    random tokens in training; improves held-out prompts."""
    valid_examples_per_family: int = 512
    """Valid prompts per family, sampled once by the seed, used in every validation; 0 disables validation."""
    eval_every_steps: int = 200
    """Steps between two validations; the last step is always validated."""
    checkpoint_metric: Literal["loss", "hr@10", "last"] = "loss"
    """Which checkpoint is kept: lowest valid loss, highest HR@10 (one-token identifiers only), or the last step."""
    patience: int | None = None
    """Validations without improvement before training stops early; null disables early stopping."""
    device: str = "auto"
    """auto (a GPU if available), cpu, cuda or cuda:N."""
    num_threads: int | None = None
    """CPU threads; null for torch's default."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the forward pass (autocast); weights and optimizer stay float32."""
    kernels: Literal["fused", "reference"] = "fused"
    """fused: dropout, norms and attention implemented here on a CPU, torch's fused kernels on a GPU; the same function.
    reference: the modules of the transformers library."""
    compile: bool = False
    """Whether to use torch.compile with the reference kernels; compiling takes minutes, so use it for long runs."""
    checkpoint_steps: int | None = None
    """Steps between two states in work/checkpoints; null saves by time only."""
    checkpoint_seconds: float | None = 300.0
    """Seconds between two states; null saves by steps only."""
    resume: bool = True
    """Whether to resume from the state of a killed run with the same parameters and inputs."""

    def __post_init__(self) -> None:
        ranges = {
            "epochs must be at least 0": self.epochs >= 0,
            "batch_size must be at least 1": self.batch_size >= 1,
            "span_noise_rate must lie in [0, 1)": 0 <= self.span_noise_rate < 1,
            "max_steps must be at least 1": self.max_steps is None or self.max_steps >= 1,
            "max_seconds must be above 0": self.max_seconds is None or self.max_seconds > 0,
            "max_tokens_per_microbatch must be at least 1": self.max_tokens_per_microbatch is None
            or self.max_tokens_per_microbatch >= 1,
            "learning_rate must be above 0": self.learning_rate > 0,
            "warmup_share must lie in [0, 1]": 0 <= self.warmup_share <= 1,
            "betas must be two numbers in [0, 1)": len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas),
            "clip_norm must be above 0": self.clip_norm > 0,
            "checkpoint_steps must be at least 1": self.checkpoint_steps is None or self.checkpoint_steps >= 1,
            "checkpoint_seconds must be above 0": self.checkpoint_seconds is None or self.checkpoint_seconds > 0,
            f"family_weights must name {', '.join(FAMILIES)}, each above 0": set(self.family_weights) == set(FAMILIES)
            and all(weight > 0 for weight in self.family_weights.values()),
            "dropout must lie in [0, 1)": 0 <= self.dropout < 1,
            "valid_examples_per_family must be at least 0": self.valid_examples_per_family >= 0,
            "eval_every_steps must be at least 1": self.eval_every_steps >= 1,
            "patience must be at least 1": self.patience is None or self.patience >= 1,
        }
        for rule, holds in ranges.items():
            if not holds:
                raise ValueError(rule)


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
