"""Stage `pretrain`: trains the text-only P5 backbone, a T5, on all prompts without photos.

Reads prompts (train, valid) and identifiers. Writes `models/<dataset>/pretrain/` with weights and tokenizer.
Trade-off: photo placeholders, half the tokens of a history, are removed instead of masked; the whole-word ids of the
other tokens are the same as in `train`.
"""

import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from features import schema
from features.runtime import stage
from features.runtime.params import build
from features.runtime.stage import Context
from modeling.config.model import BackboneParams, TeacherParams
from modeling.config.training import LoopParams
from modeling.training.run_files import checkpoints_of, manifest_of, prompt_tables

if TYPE_CHECKING:
    import torch

    from modeling.collaborative.ease import Ridge
    from modeling.data.ragged import IntArray, Ragged
    from modeling.data.tokenizer import VIP5Tokenizer

SECTIONS = ("backbone",)
_PROMPTS = tuple(f"prompts/{split}/{family}" for split in ("train", "valid") for family in schema.FAMILIES)
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
        if self.whole_word_scale < 0:
            raise ValueError("whole_word_scale must be at least 0")
        if self.item_embedding_rms <= 0:
            raise ValueError("item_embedding_rms must be above 0")


def run(params: Params, context: Context) -> int:
    """Train all parameters of a T5 on the text of every train prompt and save it."""
    import torch

    from modeling.data.prompt_dataset import PromptDataset
    from modeling.models.checkpoints import save_backbone
    from modeling.models.init_recency import init_recency
    from modeling.models.t5 import open_t5, seeded
    from modeling.models.vip5 import VIP5, set_trainable
    from modeling.runtime.devices import device_of
    from modeling.runtime.distributed import process_group, rank
    from modeling.training.curves import write_curve, write_metrics
    from modeling.training.distillation import Teacher
    from modeling.training.loop import fit
    from modeling.training.validation import Validator, fixed_rows

    backbone = build(BackboneParams, context.shared["backbone"], where="backbone")
    device = device_of(params.compute)
    tokens = make_tokens(backbone, context)
    t5 = open_t5(backbone, vocabulary_size=tokens.size, dropout=params.objective.dropout, seed=context.seed)
    with seeded(context.seed, "pretrain", "small embeddings"), torch.no_grad():
        model = VIP5(t5)
        model.whole_word.weight.mul_(params.whole_word_scale)
        model.category.weight.mul_(params.whole_word_scale)
    if params.item_embedding_init != "random":
        _init_items(params, context, t5, tokens)
    fitted = _fit_to_teacher(params, context, t5, tokens, device)
    if backbone.scratch is not None and backbone.scratch.init == "recency":
        init_recency(t5, tokens)
    set_trainable(model, tune="full", small_embeddings=True)
    limit = backbone.max_target_tokens
    train = PromptDataset.load(prompt_tables(context, "train"), tokens, None, max_target_tokens=limit)
    valid = PromptDataset.load(prompt_tables(context, "valid"), tokens, None, max_target_tokens=limit)
    rows = fixed_rows(valid, train.prompt_ids.unique().to_pylist(), params.validation.examples_per_family, context.seed)
    validator = Validator(valid, rows) if len(rows) else None
    weight = params.teacher.distillation_weight
    teacher = Teacher(train, *fitted, weight) if fitted is not None and weight else None
    init_tables = _INIT_TABLES["titles" if fitted is not None else params.item_embedding_init]
    made_from = manifest_of(params, context, (*_PROMPTS, *init_tables)) | {"backbone": asdict(backbone)}
    checkpoints = checkpoints_of(context, "pretrain", made_from)
    with process_group(device):
        training_log = fit(
            model.to(device), train, validator, params, seed=context.seed, stage="pretrain",
            checkpoints=checkpoints, teacher=teacher,
        )  # fmt: skip
    if rank():
        return training_log.examples
    limits = {
        "max_source_tokens": backbone.max_source_tokens,
        "max_target_tokens": limit,
        "truncate": backbone.truncate,
    }
    save_backbone(context, model, tokens, made_from | {"tokens": limits, "training": training_log.ending()})
    write_curve(context, "pretrain", training_log)
    write_metrics(context, "pretrain", training_log, num_parameters=sum(p.numel() for p in model.parameters()))
    shutil.rmtree(checkpoints, ignore_errors=True)
    return training_log.examples


def _init_items(params: Params, context: Context, t5: Any, tokens: "VIP5Tokenizer") -> None:
    """Initialises identifier tokens from train interactions and, optionally, titles."""
    from modeling.models.init_item_embeddings import init_item_embeddings

    texts, train, words = _interactions(context, with_words=params.item_embedding_init == "titles")
    init_item_embeddings(
        t5.shared.weight, tokens, texts, train, rms=params.item_embedding_rms, seed=context.seed, words=words
    )


def _fit_to_teacher(
    params: Params, context: Context, t5: Any, tokens: "VIP5Tokenizer", device: "torch.device"
) -> "tuple[IntArray, Ridge] | None":
    """Fits the teacher and, if configured, the item embeddings to it; returns the items' tokens and the teacher."""
    import torch

    from modeling.models.distill_item_embeddings import distill_item_embeddings
    from modeling.training.distillation import item_token_ids, make_ridge

    if not params.teacher.is_enabled:
        return None
    texts, train, words = _interactions(context, with_words=params.teacher.ridge.word_weight > 0)
    item_tokens = item_token_ids(tokens, texts)
    ridge = make_ridge(params.teacher, texts, train, words, device)
    if ridge is None:
        return None
    if params.teacher.embedding_distillation_steps:
        table, ids = t5.shared.weight.detach(), torch.from_numpy(item_tokens)
        steps = params.teacher.embedding_distillation_steps
        # The last two values are the flags of `init: recency`.
        table[ids, :-2] = distill_item_embeddings(table[ids, :-2], train, ridge, steps=steps, seed=context.seed)
    return item_tokens, ridge


def _interactions(context: Context, *, with_words: bool) -> "tuple[list[str], Ragged, Ragged | None]":
    """Loads the identifier of each item, the train items of each user, and the items of each title word."""
    from features.store.tables import read_table
    from modeling.data.title_vocabulary import items_by_word
    from modeling.data.user_histories import known_before_test

    identifiers = read_table(context.table("identifiers"), schema.IDENTIFIERS, columns=("item_id", "text"))
    texts = identifiers.sort_by("item_id")["text"].to_pylist()
    train = known_before_test(read_table(context.table("sequences/interactions"), schema.INTERACTIONS)).train
    if not with_words:
        return texts, train, None
    catalogue = read_table(context.table("sequences/items"), schema.CATALOGUE, columns=("item_id", "title"))
    return texts, train, items_by_word(catalogue.sort_by("item_id")["title"].to_pylist())


def make_tokens(backbone: BackboneParams, context: Context) -> "VIP5Tokenizer":
    """Loads the backbone's tokenizer, or trains one on the train prompts, and adds the dataset's identifiers."""
    from features.store.tables import read_table
    from modeling.data.tokenizer import VIP5Tokenizer
    from modeling.data.train_tokenizer import train_tokenizer
    from modeling.models.t5 import tokenizer_folder

    limits: dict[str, Any] = {"max_source_tokens": backbone.max_source_tokens, "truncate": backbone.truncate}
    folder = tokenizer_folder(backbone)
    if folder is None:
        texts: set[str] = set()
        for path in prompt_tables(context, "train"):
            rows = read_table(path, schema.prompts("train", path.name), columns=("source", "target"))
            texts.update(rows["source"].to_pylist(), rows["target"].to_pylist())
        tokens = VIP5Tokenizer(train_tokenizer(texts, backbone.vocabulary_size), **limits)
    else:
        tokens = VIP5Tokenizer.load(folder, **limits)
    identifiers = read_table(context.table("identifiers"), schema.IDENTIFIERS, columns=("text",))
    return tokens.with_identifiers(identifiers["text"].to_pylist())


def main(argv: Sequence[str] | None = None) -> int:
    """The command `python -m modeling.pretrain`."""
    return stage.main("pretrain", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
