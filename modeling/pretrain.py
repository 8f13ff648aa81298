"""Stage `pretrain`: the text-only P5 backbone: a T5 that has read every prompt, without photos.

Enters: prompts (train, valid) and identifiers. Leaves: `models/<dataset>/pretrain/` with weights and tokenizer.
Trade-off: photo placeholders are taken out of the sequence instead of being masked, which is half the tokens of a
history; the whole-word ids of the other tokens stay what `train` will show.
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
from modeling.config.settings import BackboneParams, LoopParams, TeacherParams
from modeling.training.run_files import checkpoints_of, manifest_of, prompt_tables

if TYPE_CHECKING:
    import torch

    from modeling.collaborative.ease import Ridge
    from modeling.data.ragged import IntArray, Ragged
    from modeling.data.tokenizer import Tokens

SECTIONS = ("backbone",)
_PROMPTS = tuple(f"prompts/{split}/{family}" for split in ("train", "valid") for family in schema.FAMILIES)
READS = tuple(
    f"data/${{dataset}}/{name}" for name in ("identifiers", "sequences/interactions", "sequences/items", *_PROMPTS)
)
_STARTED_FROM = {
    "random": (),
    "spectral": ("sequences/interactions",),
    "titles": ("sequences/interactions", "sequences/items"),
}
WRITES = ("models/${dataset}/pretrain", "plots/${dataset}/pretrain.csv", "metrics/${dataset}/pretrain.json")


@dataclass(frozen=True, kw_only=True)
class Params:
    """Parameters of the stage `pretrain`."""

    loop: LoopParams = field(default_factory=LoopParams)
    """The training run; `epochs: 0` takes the backbone as it is and only adds the identifiers."""
    whole_word_scale: float = 1.0
    """Standard deviation of the fresh whole-word and category embeddings (1.0 in the paper)."""
    item_vectors: Literal["random", "spectral", "titles"] = "random"
    """Where identifier tokens start: drawn like every new token (the paper), from who bought what in train, or from
    that and from the words of titles, each of which counts like one more user who bought the items that have it."""
    item_spread: float = 0.5
    """spectral, titles: root mean square of the numbers of an identifier token's vector."""
    teacher: TeacherParams = field(default_factory=TeacherParams)
    """What next-item answers are trained towards beside the item that was bought."""

    def __post_init__(self) -> None:
        if self.whole_word_scale < 0:
            raise ValueError("whole_word_scale must be at least 0")
        if self.item_spread <= 0:
            raise ValueError("item_spread must be above 0")


def run(params: Params, context: Context) -> int:
    """Fine-tune all of a T5 on the text of every train prompt and save it."""
    import torch

    from modeling.data.prompt_dataset import Corpus
    from modeling.models.checkpoints import save_backbone
    from modeling.models.init_recency import start_recent
    from modeling.models.t5 import open_t5, seeded
    from modeling.models.vip5 import VIP5, set_trainable
    from modeling.runtime.devices import device_of
    from modeling.runtime.distributed import joined, rank
    from modeling.training.curves import write_curve, write_metrics
    from modeling.training.distillation import Teacher
    from modeling.training.loop import fit
    from modeling.training.validation import Measure, fixed_rows

    backbone = build(BackboneParams, context.shared["backbone"], where="backbone")
    device = device_of(params.loop)
    tokens = make_tokens(backbone, context)
    t5 = open_t5(backbone, vocabulary_size=tokens.size, dropout=params.loop.dropout, seed=context.seed)
    with seeded(context.seed, "pretrain", "small embeddings"), torch.no_grad():
        model = VIP5(t5)
        model.whole_word.weight.mul_(params.whole_word_scale)
        model.category.weight.mul_(params.whole_word_scale)
    if params.item_vectors != "random":
        _start_items(params, context, t5, tokens)
    taught = _fit_to_teacher(params, context, t5, tokens, device)
    if backbone.scratch is not None and backbone.scratch.start == "recent":
        start_recent(t5, tokens)
    set_trainable(model, tune="full", small_embeddings=True)
    limit = backbone.max_target_tokens
    train = Corpus.load(prompt_tables(context, "train"), tokens, None, max_target_tokens=limit)
    valid = Corpus.load(prompt_tables(context, "valid"), tokens, None, max_target_tokens=limit)
    rows = fixed_rows(valid, train.prompt_ids.unique().to_pylist(), params.loop.valid_rows, context.seed)
    measure = Measure(valid, rows) if len(rows) else None
    share = params.teacher.share
    teacher = Teacher(train, *taught, share) if taught is not None and share else None
    started_from = _STARTED_FROM["titles" if taught is not None else params.item_vectors]
    made_from = manifest_of(params, context, (*_PROMPTS, *started_from)) | {"backbone": asdict(backbone)}
    place = checkpoints_of(context, "pretrain", params.loop, made_from)
    with joined(device):
        history = fit(
            model.to(device), train, measure, params.loop, seed=context.seed, stage="pretrain", checkpoints=place,
            teacher=teacher,
        )  # fmt: skip
    if rank():
        return history.examples
    limits = {
        "max_source_tokens": backbone.max_source_tokens,
        "max_target_tokens": limit,
        "truncate": backbone.truncate,
    }
    save_backbone(context, model, tokens, made_from | {"tokens": limits, "training": history.ending()})
    write_curve(context, "pretrain", history)
    write_metrics(context, "pretrain", history, num_parameters=sum(p.numel() for p in model.parameters()))
    shutil.rmtree(place, ignore_errors=True)
    return history.examples


def _start_items(params: Params, context: Context, t5: Any, tokens: "Tokens") -> None:
    """Identifier tokens start from the train split's purchases, and from titles on request."""
    from modeling.models.init_item_embeddings import start_items

    texts, train, words = _bought(context, with_words=params.item_vectors == "titles")
    start_items(t5.shared.weight, tokens, texts, train, spread=params.item_spread, seed=context.seed, words=words)


def _fit_to_teacher(
    params: Params, context: Context, t5: Any, tokens: "Tokens", device: "torch.device"
) -> "tuple[IntArray, Ridge] | None":
    """The token of each item and the teacher's regression; the item vectors are fitted to it where that is asked."""
    import torch

    from modeling.models.distill_item_embeddings import fit_vectors
    from modeling.training.distillation import make_ridge, tokens_of_items

    if not params.teacher.is_asked:
        return None
    texts, bought, words = _bought(context, with_words=params.teacher.ridge.word_weight > 0)
    item_tokens = tokens_of_items(tokens, texts)
    ridge = make_ridge(params.teacher, texts, bought, words, device)
    if ridge is None:
        return None
    if params.teacher.vector_steps:
        table, ids = t5.shared.weight.detach(), torch.from_numpy(item_tokens)
        found = fit_vectors(
            table[ids, :-2], bought, ridge, steps=params.teacher.vector_steps, seed=context.seed
        )  # the last two numbers are the flags of `recent`
        table[ids, :-2] = found
    return item_tokens, ridge


def _bought(context: Context, *, with_words: bool) -> "tuple[list[str], Ragged, Ragged | None]":
    """The identifier of each item, the train items of each user, and the items by title word."""
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


def make_tokens(backbone: BackboneParams, context: Context) -> "Tokens":
    """The backbone's tokenizer, or one trained on the train prompts, with the dataset's identifiers added."""
    from features.store.tables import read_table
    from modeling.data.tokenizer import Tokens
    from modeling.data.train_tokenizer import train_tokenizer
    from modeling.models.t5 import tokenizer_folder

    limits: dict[str, Any] = {"max_source_tokens": backbone.max_source_tokens, "truncate": backbone.truncate}
    folder = tokenizer_folder(backbone)
    if folder is None:
        texts: set[str] = set()
        for path in prompt_tables(context, "train"):
            rows = read_table(path, schema.prompts("train", path.name), columns=("source", "target"))
            texts.update(rows["source"].to_pylist(), rows["target"].to_pylist())
        tokens = Tokens(train_tokenizer(texts, backbone.vocabulary_size), **limits)
    else:
        tokens = Tokens.load(folder, **limits)
    identifiers = read_table(context.table("identifiers"), schema.IDENTIFIERS, columns=("text",))
    return tokens.with_identifiers(identifiers["text"].to_pylist())


def main(argv: Sequence[str] | None = None) -> int:
    """The command `python -m modeling.pretrain`."""
    return stage.main("pretrain", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
