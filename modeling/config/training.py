"""Parameters of a training run, which the stages `pretrain` and `train` share, in groups.

Every group checks its own ranges. Defines frozen dataclasses and imports no torch, so that `--help` answers quickly.
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Any, Literal


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long a training run lasts."""

    epochs: int = 10
    """Number of epochs; epoch e uses round e of the train prompts, modulo the number of rounds. 0 skips training."""
    max_steps: int | None = None
    """Maximum number of optimizer steps, over which the learning rate decays to 0; null for no limit."""
    max_seconds: float | None = None
    """Maximum training time in seconds; the step at which training stops depends on the machine. null for no limit."""
    warmup_share: float = 0.1
    """Share of the steps used for linear warm-up; linear decay follows."""

    def __post_init__(self) -> None:
        _require(
            {
                "epochs must be at least 0": self.epochs >= 0,
                "max_steps must be at least 1": self.max_steps is None or self.max_steps >= 1,
                "max_seconds must be above 0": self.max_seconds is None or self.max_seconds > 0,
                "warmup_share must lie in [0, 1]": 0 <= self.warmup_share <= 1,
            }
        )


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How examples form optimizer steps and microbatches."""

    batch_size: int = 64
    """Examples per optimizer step."""
    order: Literal["shuffled", "length_bucketed"] = "shuffled"
    """shuffled: each step samples from the whole epoch and accumulates gradients over microbatches of similar length.
    length_bucketed: each step is one batch of examples of similar length, which is faster for tiny models."""
    max_tokens_per_microbatch: int | None = 8192
    """Maximum number of source tokens per microbatch, including padding; null for no limit."""

    def __post_init__(self) -> None:
        limit = self.max_tokens_per_microbatch
        _require(
            {
                "batch_size must be at least 1": self.batch_size >= 1,
                "max_tokens_per_microbatch must be at least 1": limit is None or limit >= 1,
            }
        )


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """AdamW."""

    learning_rate: float = 1e-3
    """Maximum learning rate, reached after warm-up."""
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

    def __post_init__(self) -> None:
        _require(
            {
                "learning_rate must be above 0": self.learning_rate > 0,
                "betas must be two numbers in [0, 1)": len(self.betas) == 2 and all(0 <= b < 1 for b in self.betas),
                "clip_norm must be above 0": self.clip_norm > 0,
            }
        )


@dataclass(frozen=True, kw_only=True)
class FamilyWeights:
    """Weight of the examples of each prompt family in the mean."""

    sequential: float = 1.0
    """Weight of next-item examples."""
    direct: float = 1.0
    """Weight of examples with candidates."""
    explanation: float = 1.0
    """Weight of examples with a sentence as target."""

    def __post_init__(self) -> None:
        _require({"family_weights must be above 0": min(astuple(self)) > 0})


@dataclass(frozen=True, kw_only=True)
class Objective:
    """The loss and its regularisation."""

    loss_reduction: Literal["tokens", "examples", "paper"] = "examples"
    """tokens: mean over target tokens. examples: mean over examples of their mean token loss. paper: as examples, with
    each example weighted by 1 / target length."""
    family_weights: FamilyWeights = field(default_factory=FamilyWeights)
    """Weight of each family's examples (target tokens, with `loss_reduction: tokens`) in the mean."""
    mask_seen_items: bool = False
    """Whether the training softmax masks items already in the prompt, as evaluation does."""
    span_noise_rate: float = 0.0
    """Share of the text spans (before, between and after items) of next-item prompts that are dropped or replaced by
    random tokens in training; improves held-out prompts."""
    dropout: float = 0.1
    """Dropout probability in the backbone."""

    def __post_init__(self) -> None:
        _require(
            {
                "span_noise_rate must lie in [0, 1)": 0 <= self.span_noise_rate < 1,
                "dropout must lie in [0, 1)": 0 <= self.dropout < 1,
            }
        )


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Validation, the choice of a checkpoint, and early stopping."""

    examples_per_family: int = 512
    """Valid prompts per family, sampled once by the seed, used in every validation; 0 disables validation."""
    every_steps: int = 200
    """Steps between two validations; the last step is always validated."""
    checkpoint_metric: Literal["loss", "hr@10", "last"] = "loss"
    """Which checkpoint is kept: lowest valid loss, highest HR@10 (one-token identifiers only), or the last step."""
    patience: int | None = None
    """Validations without improvement before training stops early; null disables early stopping."""

    def __post_init__(self) -> None:
        _require(
            {
                "examples_per_family must be at least 0": self.examples_per_family >= 0,
                "every_steps must be at least 1": self.every_steps >= 1,
                "patience must be at least 1": self.patience is None or self.patience >= 1,
            }
        )


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The states from which a killed run resumes."""

    every_steps: int | None = None
    """Steps between two states in work/checkpoints; null saves by time only."""
    every_seconds: float | None = 300.0
    """Seconds between two states; null saves by steps only."""
    resume: bool = True
    """Whether to resume from the state of a killed run with the same parameters and inputs."""

    def __post_init__(self) -> None:
        _require(
            {
                "every_steps must be at least 1": self.every_steps is None or self.every_steps >= 1,
                "every_seconds must be above 0": self.every_seconds is None or self.every_seconds > 0,
            }
        )


@dataclass(frozen=True, kw_only=True)
class Compute:
    """Where and how the model is computed."""

    device: str = "auto"
    """auto (a GPU if available), cpu, cuda or cuda:N."""
    num_threads: int | None = None
    """CPU threads; null for torch's default. A tiny model gains nothing from more than one."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the forward pass (autocast); weights and optimizer stay float32."""
    kernels: Literal["fused", "reference"] = "fused"
    """fused: dropout, norms and attention implemented here on a CPU, torch's fused kernels on a GPU; the same function.
    reference: the modules of the transformers library."""
    compile: bool = False
    """Whether to use torch.compile with the reference kernels; compiling takes minutes, so use it for long runs."""


@dataclass(frozen=True, kw_only=True)
class LoopParams:
    """Settings of one training run; the parameters of `pretrain` and `train` inherit them."""

    families: tuple[Literal["sequential", "direct", "explanation", "language"], ...] = (
        "sequential", "direct", "explanation",
    )  # fmt: skip
    """Tables of `prompts/train` to train on; language: sentences of train reviews and titles. Validation uses the valid
    prompts that they train."""
    schedule: Schedule = field(default_factory=Schedule)
    """How long a training run lasts."""
    batching: Batching = field(default_factory=Batching)
    """How examples form optimizer steps and microbatches."""
    optimizer: Optimizer = field(default_factory=Optimizer)
    """AdamW."""
    objective: Objective = field(default_factory=Objective)
    """The loss and its regularisation."""
    validation: Validation = field(default_factory=Validation)
    """Validation, the choice of a checkpoint, and early stopping."""
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    """The states from which a killed run resumes."""
    compute: Compute = field(default_factory=Compute)
    """Where and how the model is computed."""

    def __post_init__(self) -> None:
        metric = self.validation.checkpoint_metric
        _require(
            {
                "families must be distinct, and at least one": 0 < len(self.families) == len(set(self.families)),
                "checkpoint_metric: hr@10 needs the family sequential": metric != "hr@10"
                or "sequential" in self.families,
            }
        )


RUN_ONLY = {
    "schedule": ("max_seconds",),
    "checkpoint": ("every_steps", "every_seconds", "resume"),
    "compute": ("device", "num_threads"),
}
"""Settings that do not affect the trained model, by group; changing them does not prevent resuming."""


def without_run_only(params: Mapping[str, Any]) -> dict[str, Any]:
    """`params`, those of a training stage as plain values, without the settings in `RUN_ONLY`."""
    return {
        name: {key: value for key, value in values.items() if key not in RUN_ONLY[name]} if name in RUN_ONLY else values
        for name, values in params.items()
    }


def _require(rules: Mapping[str, bool]) -> None:
    """Raises ValueError with the first rule that does not hold."""
    for rule, holds in rules.items():
        if not holds:
            raise ValueError(rule)
