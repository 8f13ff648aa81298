"""Stage `pretrain`: trains the text-only P5 backbone, a T5, on prompts without photos and on language rows.

Reads prompts (train, valid) and identifiers. Writes `models/<dataset>/pretrain/` with weights and tokenizer.
Trade-off: photo placeholders, half the tokens of a history, are removed instead of masked; the whole-word ids of the
other tokens are the same as in `train`.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from features import schema
from features.runtime import stage
from features.runtime.params import build
from features.runtime.stage import Context
from modeling.config.model import BackboneParams, TeacherParams
from modeling.config.training import LoopParams
from modeling.training.run_files import checkpoints_of, manifest_of, prompt_names

SECTIONS = ("backbone",)
_PROMPTS = (*prompt_names("train", (*schema.FAMILIES, "language")), *prompt_names("valid"))
READS = tuple(
    f"data/${{dataset}}/{name}" for name in ("identifiers", "sequences/interactions", "sequences/items", *_PROMPTS)
)
_INIT_TABLES = {
    "random": (),
    "spectral": ("sequences/interactions",),
    "titles": ("sequences/interactions", "sequences/items"),
}
WRITES = ("models/${dataset}/pretrain", "plots/${dataset}/pretrain.csv", "metrics/${dataset}/pretrain.json")


@dataclass(frozen=True, kw_only=True)
class Params(LoopParams):
    """Parameters of the stage `pretrain`; `schedule.epochs: 0` keeps the backbone and only adds the identifiers."""

    families: tuple[Literal["sequential", "direct", "explanation", "language"], ...] = (
        "sequential", "direct", "explanation", "language",
    )  # fmt: skip
    """Tables of `prompts/train` to train on; language: sentences of train reviews and titles. The tokenizer always
    reads all four. Validation uses the valid prompts that they train."""
    whole_word_scale: float = 1.0
    """Standard deviation of the initial whole-word and category embeddings (1.0 in the paper)."""
    item_embedding_init: Literal["random", "spectral", "titles"] = "random"
    """Initial embeddings of identifier tokens: random (the paper), spectral embeddings of train interactions, or the
    same with title words, each treated as a user of all items with the word."""
    item_embedding_rms: float = 0.5
    """spectral, titles: root mean square of the values of an identifier token's embedding."""
    teacher: TeacherParams = field(default_factory=TeacherParams)
    """Distillation from a closed-form model into next-item prompts."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.whole_word_scale < 0:
            raise ValueError("whole_word_scale must be at least 0")
        if self.item_embedding_rms <= 0:
            raise ValueError("item_embedding_rms must be above 0")


def run(params: Params, context: Context) -> int:
    """Train all parameters of a T5 on the text of the train prompts and save it."""
    from modeling.data.lost_characters import warn_of_lost_characters
    from modeling.training import backbone_init, recipe

    backbone = build(BackboneParams, context.shared["backbone"], where="backbone")
    device = recipe.select_device(params)
    tokens = backbone_init.make_tokens(backbone, context)
    prompts = recipe.read_prompts(
        context, tokens, None, families=params.families, max_target_tokens=backbone.max_target_tokens
    )
    warn_of_lost_characters(prompts.train)

    model = backbone_init.new_backbone(
        backbone, tokens, dropout=params.objective.dropout, whole_word_scale=params.whole_word_scale, seed=context.seed
    )
    backbone_init.init_items(model, tokens, context, init=params.item_embedding_init, rms=params.item_embedding_rms)
    teacher = backbone_init.fit_teacher(model, tokens, context, params.teacher, train=prompts.train, device=device)
    backbone_init.init_attention(model, tokens, backbone)

    init_tables = _INIT_TABLES["titles" if params.teacher.is_enabled else params.item_embedding_init]
    made_from = manifest_of(params, context, (*_PROMPTS, *init_tables)) | {"backbone": asdict(backbone)}
    checkpoints = checkpoints_of(context, "pretrain", made_from)
    training_log = recipe.train_model(
        model, prompts, params, seed=context.seed, stage="pretrain", device=device, checkpoints=checkpoints,
        teacher=teacher,
    )  # fmt: skip

    limits = {name: getattr(backbone, name) for name in ("max_source_tokens", "max_target_tokens", "truncate")}
    recipe.write_backbone(context, model, tokens, made_from | {"tokens": limits}, training_log)
    recipe.remove_states(checkpoints)
    return training_log.examples


def main(argv: Sequence[str] | None = None) -> int:
    """The command `python -m modeling.pretrain`."""
    return stage.main("pretrain", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
