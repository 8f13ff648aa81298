"""The model that `pretrain` starts from: tokenizer, T5, item embeddings and, optionally, a teacher.

Reads the section `backbone`, prompts, identifiers, train interactions and titles; returns a tokenizer, a model and soft
targets.
"""

from dataclasses import dataclass
from typing import Any, Literal

import torch

from features import schema
from features.runtime.stage import Context
from features.store.tables import read_table
from modeling.config.model import BackboneParams, TeacherParams
from modeling.data.prompt_dataset import PromptDataset
from modeling.data.ragged import Ragged
from modeling.data.title_vocabulary import items_by_word
from modeling.data.tokenizer import VIP5Tokenizer
from modeling.data.train_tokenizer import train_tokenizer
from modeling.data.user_histories import known_before_test
from modeling.models.distill_item_embeddings import distill_item_embeddings
from modeling.models.init_item_embeddings import init_item_embeddings
from modeling.models.init_recency import init_recency
from modeling.models.t5 import copy_to_output, open_t5, tokenizer_folder
from modeling.models.vip5 import VIP5, set_trainable
from modeling.runtime.random_state import seeded
from modeling.training.distillation import Teacher, item_token_ids, make_ridge
from modeling.training.run_files import prompt_tables


def make_tokens(backbone: BackboneParams, context: Context) -> VIP5Tokenizer:
    """Loads the backbone's tokenizer, or trains one on all train prompts, and adds the dataset's identifiers.

    The tokenizer does not depend on the families that are trained, so that other prompts can follow in `train`.
    """
    limits: dict[str, Any] = {"max_source_tokens": backbone.max_source_tokens, "truncate": backbone.truncate}
    folder = tokenizer_folder(backbone)
    if folder is None:
        texts: set[str] = set()
        for path in prompt_tables(context, "train", (*schema.FAMILIES, "language")):
            rows = read_table(path, schema.prompts("train", path.name), columns=("source", "target"))
            texts.update(rows["source"].to_pylist(), rows["target"].to_pylist())
        tokens = VIP5Tokenizer(train_tokenizer(texts, backbone.vocabulary_size), **limits)
    else:
        tokens = VIP5Tokenizer.load(folder, **limits)
    identifiers = read_table(context.table("identifiers"), schema.IDENTIFIERS, columns=("text",))
    return tokens.with_identifiers(identifiers["text"].to_pylist())


def new_backbone(
    backbone: BackboneParams, tokens: VIP5Tokenizer, *, dropout: float, whole_word_scale: float, seed: int
) -> VIP5:
    """Opens or creates the T5 and adds new whole-word and category embeddings; all parameters are trained."""
    t5 = open_t5(backbone, vocabulary_size=tokens.size, dropout=dropout, seed=seed)
    with seeded(seed, "pretrain", "small embeddings"), torch.no_grad():
        model = VIP5(t5, identifiers=tokens.identifier_ids)
        model.whole_word.weight.mul_(whole_word_scale)
        model.category.weight.mul_(whole_word_scale)
    set_trainable(model, tune="full", small_embeddings=True)
    return model


@dataclass(frozen=True)
class Interactions:
    """Train interactions and titles, for models in closed form."""

    texts: list[str]
    """Identifier of item i + 1, as prompts contain it."""
    train: Ragged
    """Row u holds the train items of user u, counted from 1."""
    words: Ragged | None
    """Row w holds the items whose titles contain word w; None if titles are not read."""

    @classmethod
    def read(cls, context: Context, *, with_words: bool) -> "Interactions":
        """Reads identifiers, train interactions and, optionally, titles."""
        identifiers = read_table(context.table("identifiers"), schema.IDENTIFIERS, columns=("item_id", "text"))
        texts = identifiers.sort_by("item_id")["text"].to_pylist()
        train = known_before_test(read_table(context.table("sequences/interactions"), schema.INTERACTIONS)).train
        if not with_words:
            return cls(texts, train, None)
        catalogue = read_table(context.table("sequences/items"), schema.CATALOGUE, columns=("item_id", "title"))
        return cls(texts, train, items_by_word(catalogue.sort_by("item_id")["title"].to_pylist()))


def init_items(
    model: VIP5, tokens: VIP5Tokenizer, context: Context, *, init: Literal["random", "spectral", "titles"], rms: float
) -> None:
    """Initialises the embeddings of identifier tokens from train interactions and, for `titles`, title words."""
    if init == "random":
        return
    read = Interactions.read(context, with_words=init == "titles")
    init_item_embeddings(
        model.t5.shared.weight, tokens, read.texts, read.train, rms=rms, seed=context.seed, words=read.words
    )
    copy_to_output(model.t5, torch.from_numpy(tokens.identifier_ids.astype("int64")))


def fit_teacher(
    model: VIP5, tokens: VIP5Tokenizer, context: Context, params: TeacherParams, *, train: PromptDataset,
    device: torch.device,
) -> Teacher | None:  # fmt: skip
    """Fits the teacher on `device` and, if configured, the item embeddings of `model` to it.

    Returns:
        Soft targets for the rows of `train`; None if they have no weight in the loss.
    """
    if not params.is_enabled:
        return None
    read = Interactions.read(context, with_words=params.ridge.word_weight > 0)
    item_tokens = item_token_ids(tokens, read.texts)
    ridge = make_ridge(params, read.texts, read.train, read.words, device)
    if ridge is None:
        return None
    if params.embedding_distillation_steps:
        table, ids = model.t5.shared.weight.detach(), torch.from_numpy(item_tokens)
        steps = params.embedding_distillation_steps
        # The last two values are the flags of `init: recency`.
        table[ids, :-2] = distill_item_embeddings(table[ids, :-2], read.train, ridge, steps=steps, seed=context.seed)
        copy_to_output(model.t5, ids)
    return Teacher(train, item_tokens, ridge, params.distillation_weight) if params.distillation_weight else None


def init_attention(model: VIP5, tokens: VIP5Tokenizer, backbone: BackboneParams) -> None:
    """Applies `init: recency`, which depends on the item embeddings; does nothing for other T5s."""
    if backbone.scratch is not None and backbone.scratch.init == "recency":
        init_recency(model.t5, tokens)
