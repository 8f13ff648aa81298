"""Distillation: the teacher predicts for next-item prompts only, with the configured weight in the loss."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from features import schema
from features.errors import ParamsError
from features.runtime.stage import Context
from features.store.tables import from_rows, write_table
from modeling import pretrain
from modeling.config.model import RidgeParams, TeacherParams
from modeling.config.training import Batching, LoopParams, Objective, Optimizer, Schedule, Validation
from modeling.data.prompt_dataset import PromptDataset
from modeling.data.ragged import Ragged
from modeling.data.tokenizer import VIP5Tokenizer
from modeling.data.train_tokenizer import train_tokenizer
from modeling.models.distill_item_embeddings import distill_item_embeddings
from modeling.models.targets import SoftTargets
from modeling.models.token_loss import TokenLosses, with_soft_targets
from modeling.training.distillation import Teacher, item_token_ids, make_ridge
from tests.modeling.world import MADE, NUM_ITEMS, NUM_USERS, curve, write_world

TEXTS = [f"<item_{item}>" for item in range(1, NUM_ITEMS + 1)]
TRAIN = Ragged.from_rows([[], *([(user + k) % NUM_ITEMS + 1 for k in range(3)] for user in range(NUM_USERS))])
ALWAYS = TeacherParams(distillation_weight=0.5, ridge=RidgeParams(penalty=1.0, word_weight=0.0, decay=0.5))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """The world with the interactions and titles that the teacher and the item embeddings read."""
    made = write_world(tmp_path_factory.mktemp("world"))
    users, positions, items = [], [], []
    for user in range(1, NUM_USERS + 1):
        users += [user] * 3
        positions += [1, 2, 3]
        items += TRAIN.row(user).tolist()
    rows = [
        {"user_id": u, "item_id": i, "position": p, "timestamp": p, "rating": 5.0, "split": "train"}
        for u, p, i in zip(users, positions, items, strict=True)
    ]
    write_table(made.table("sequences/interactions"), schema.INTERACTIONS, from_rows(schema.INTERACTIONS, rows), MADE)
    titles = [
        {"item_id": i, "num_interactions": 3, "num_train": 3, "item_key": f"K{i}", "title": f"thing of kind{i % 3}"}
        for i in range(1, NUM_ITEMS + 1)
    ]
    write_table(made.table("sequences/items"), schema.CATALOGUE, from_rows(schema.CATALOGUE, titles), MADE)
    return made


@pytest.fixture(scope="module")
def corpus(place: Context) -> PromptDataset:
    tokens = VIP5Tokenizer(train_tokenizer(["Here is what user_1 bought : what is next ?"], 120)).with_identifiers(
        TEXTS
    )
    return PromptDataset.load([place.table(f"prompts/train/{f}") for f in schema.FAMILIES], tokens, None)


def test_targets_depend_on_the_items_of_the_prompt(corpus: PromptDataset) -> None:
    ridge = make_ridge(ALWAYS, TEXTS, TRAIN, None)
    assert ridge is not None
    teacher = Teacher(corpus, item_token_ids(corpus.tokens, TEXTS), ridge, 0.5)
    assert teacher.answers.tolist() == [True] * NUM_USERS + [False] * 2 * NUM_USERS
    assert teacher.named.row(0).tolist() == [3, 4, 5]  # user 1 of the world, oldest first
    soft = teacher.soft_targets(np.array([40, 0, 7]), torch.device("cpu"))
    assert soft is not None
    assert soft.rows.tolist() == [1, 2]
    expected = teacher.ridge.probabilities(teacher.named, np.array([0, 7]))
    torch.testing.assert_close(soft.probabilities, expected)
    assert not soft.probabilities[0, 2:5].any()
    names = [corpus.tokens.tokenizer.id_to_token(int(token)) for token in soft.tokens]
    assert names == TEXTS
    assert teacher.soft_targets(np.array([40, 70]), torch.device("cpu")) is None


def test_the_distillation_loss_is_the_formula() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(1))
    rows = torch.tensor([0, 0, 1, 2, 2])
    labels = torch.tensor([1, 2, 3, 4, 5])
    plain = F.cross_entropy(logits, labels, reduction="none")
    probabilities = torch.tensor([[0.75, 0.25], [0.0, 0.0]])
    soft = SoftTargets(torch.tensor([0, 2]), probabilities, torch.tensor([3, 6]), 0.4)
    found = with_soft_targets(TokenLosses(plain, rows, torch.zeros(3, dtype=torch.long)), logits, soft).values
    log_probs = logits[0].log_softmax(-1)
    taught = -(0.75 * log_probs[3] + 0.25 * log_probs[6])
    torch.testing.assert_close(found[0], 0.6 * plain[0] + 0.4 * taught)
    torch.testing.assert_close(found[1:], plain[1:])  # other tokens, other rows, and a row without soft targets


def test_the_stage_approaches_the_teacher(place: Context) -> None:
    loop = LoopParams(
        schedule=Schedule(epochs=3),
        batching=Batching(batch_size=16),
        optimizer=Optimizer(learning_rate=0.02),
        objective=Objective(dropout=0.0),
        validation=Validation(every_steps=20, examples_per_family=0),
    )
    losses, places = {}, {}
    for share in (0.0, 0.9):
        params = pretrain.Params(**vars(loop), teacher=replace(ALWAYS, distillation_weight=share))
        pretrain.run(params, place)
        losses[share] = [float(row["loss_sequential"]) for row in curve(place, "pretrain")]
        places[share] = json.loads((place.model("pretrain") / "manifest.json").read_text(encoding="utf-8"))
    assert losses[0.0] != losses[0.9]
    assert set(places[0.9]["tables"]) - set(places[0.0]["tables"]) == {"sequences/interactions", "sequences/items"}


def test_unsupported_catalogues_are_rejected(corpus: PromptDataset, place: Context, tmp_path: Path) -> None:
    few = replace(ALWAYS, ridge=replace(ALWAYS.ridge, max_items=5))
    with pytest.raises(ParamsError, match=r"teacher with 12 items.*at most 5"):
        make_ridge(few, TEXTS, TRAIN, None)
    with pytest.raises(ParamsError, match=r"identifiers of several tokens.*scheme: token"):
        item_token_ids(corpus.tokens, ["1", "2"])
    assert make_ridge(TeacherParams(), TEXTS, TRAIN, None) is None
    with pytest.raises(ValueError, match="distillation_weight must lie in"):
        TeacherParams(distillation_weight=1.5)
    assert TeacherParams(embedding_distillation_steps=3).is_enabled
    with pytest.raises(ValueError, match="embedding_distillation_steps must be"):
        TeacherParams(embedding_distillation_steps=-1)


def test_distilled_embeddings_predict_as_the_teacher() -> None:
    ridge = make_ridge(ALWAYS, TEXTS, TRAIN, None)
    assert ridge is not None
    start = torch.randn(NUM_ITEMS, 8, generator=torch.Generator().manual_seed(2))
    agreed = {}
    for steps in (0, 400):
        vectors = distill_item_embeddings(start, TRAIN, ridge, steps=steps, seed=1)
        logits = F.normalize(vectors, dim=1) @ vectors.T
        best = logits.fill_diagonal_(-torch.inf).argmax(1)
        agreed[steps] = (best == ridge.weights.argmax(1)).double().mean().item()
    assert agreed[400] > 0.9 > 0.5 > agreed[0]
    again = distill_item_embeddings(start, TRAIN, ridge, steps=400, seed=1)
    torch.testing.assert_close(again, vectors, atol=0, rtol=0)


def test_without_next_item_rows_the_teacher_changes_nothing(place: Context, tmp_path: Path) -> None:
    weights = []
    for share in (0.0, 0.9):
        made = replace(place, root=tmp_path / str(share))
        shutil.copytree(place.table(""), made.table(""))
        teacher = replace(ALWAYS, distillation_weight=share)
        params = pretrain.Params(families=("explanation",), schedule=Schedule(epochs=1), teacher=teacher)
        assert pretrain.run(params, made) == NUM_USERS
        weights.append((made.model("pretrain") / "model.safetensors").read_bytes())
    assert weights[0] == weights[1]
