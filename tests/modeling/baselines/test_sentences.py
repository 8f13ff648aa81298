"""Sentence baselines: which train sentence each one chooses."""

import numpy as np
import pyarrow as pa
import pytest

from modeling.baselines.sentences import HINTED, UNHINTED, TrainSentences, central, commonest, sentence_baselines

ROWS = [
    ("train", 1, "lid", "The lid is good."),
    ("train", 1, "lid", "The lid is good."),
    ("train", 2, "lid", "The lid is nice."),
    ("train", 3, "cord", "It has a long cord."),
    ("test", 3, "cord", "The cord broke."),
]
TITLES = ["Red kettle", "Blue kettle", "Desk lamp", "Green desk lamp"]


@pytest.fixture
def train() -> TrainSentences:
    columns = [list(column) for column in zip(*ROWS, strict=True)]
    return TrainSentences.of(pa.table(columns, names=["split", "item_id", "feature", "sentence"]))


def test_test_sentences_are_never_chosen(train: TrainSentences) -> None:
    assert len(train.sentences) == 4
    chosen = sentence_baselines(train, TITLES, ["cord", "lid"], [3, 4], seed=1)
    assert set(chosen) == {*UNHINTED, *HINTED}
    assert "The cord broke." not in {sentence for sentences in chosen.values() for sentence in sentences}


def test_hinted_baselines_follow_the_feature(train: TrainSentences) -> None:
    chosen = sentence_baselines(train, TITLES, ["cord", "lid", "zipper"], [3, 1, 1], seed=1)
    assert chosen["commonest"] == ["The lid is good."] * 3
    for name in HINTED:
        assert chosen[name][0] == "It has a long cord."
        assert "lid" in chosen[name][1]
    assert chosen["commonest_of_feature"][2] == "The lid is good."


def test_the_nearest_title_may_be_the_item_itself(train: TrainSentences) -> None:
    chosen = sentence_baselines(train, TITLES, ["lid"] * 4, [1, 2, 3, 4], seed=1)["nearest_title"]
    assert chosen == ["The lid is good.", "The lid is nice.", "It has a long cord.", "It has a long cord."]


def test_the_central_sentence_shares_most_words() -> None:
    assert central(["a b c", "a b d", "a b c d", "x y"], seed=0) == "a b c d"
    assert commonest(["b", "a"]) == "a"


def test_without_train_sentences_there_are_no_baselines() -> None:
    empty = TrainSentences(sentences=[], features=[], item_ids=np.zeros(0, np.int64))
    assert sentence_baselines(empty, TITLES, ["lid"], [1], seed=1) == {}


def test_many_sentences_are_sampled_by_the_seed() -> None:
    sentences = [f"word{i} lid" for i in range(1500)]
    assert central(sentences, seed=3) == central(sentences, seed=3)
