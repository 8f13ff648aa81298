"""Prompt datasets and batches: a row yields the same tensors in any batch."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from features import schema
from features.errors import InputError, TableError
from features.runtime.seeds import rng
from features.runtime.stage import Context
from features.store.tables import from_rows, read_table, write_table
from modeling.config.model import BackboneParams, Scratch
from modeling.data.length_batching import padding_share, plan_batches
from modeling.data.prompt_dataset import PhotoTable, PromptDataset
from modeling.data.ragged import Ragged
from modeling.data.tokenizer import VIP5Tokenizer
from modeling.data.truncation import without_oldest
from modeling.training.backbone_init import make_tokens
from modeling.training.run_files import prompt_tables
from tests.modeling.world import MADE, NUM_ITEMS, NUM_USERS, WIDTH, prompt_rows, write_world


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def tokens(place: Context) -> VIP5Tokenizer:
    return make_tokens(BackboneParams(scratch=Scratch(), vocabulary_size=120), place)


@pytest.fixture(scope="module")
def photos(place: Context) -> PhotoTable:
    return PhotoTable.load(place.table("images/embeddings"))


@pytest.fixture(scope="module")
def corpus(place: Context, tokens: VIP5Tokenizer, photos: PhotoTable) -> PromptDataset:
    return PromptDataset.load(prompt_tables(place, "train"), tokens, photos)


def test_photo_table_has_zeros_for_missing_photos(photos: PhotoTable) -> None:
    assert photos.features.shape == (NUM_ITEMS + 1, WIDTH)
    assert photos.width == WIDTH
    assert photos.present.tolist() == [False, True, True, False] + [True] * (NUM_ITEMS - 3)
    assert not photos.features[[0, 3]].any()
    assert not photos.withheld().present.any()


def test_a_view_with_other_photos_leaves_the_dataset_unchanged(corpus: PromptDataset, photos: PhotoTable) -> None:
    blind = corpus.with_photos(photos.withheld())
    assert not blind.batch([0]).image_present.any()
    assert corpus.batch([0]).image_present.any()
    assert blind.batch([0]).input_ids.tolist() == corpus.batch([0]).input_ids.tolist()


def test_columns_follow_the_tables(corpus: PromptDataset) -> None:
    assert len(corpus) == 3 * NUM_USERS
    assert corpus.families.tolist() == [0] * NUM_USERS + [1] * NUM_USERS + [2] * NUM_USERS
    assert corpus.user_ids[:3].tolist() == [1, 2, 3]
    assert corpus.target_item_ids[[0, 60]].tolist() == [6, 0]
    assert corpus.candidate_ids.row(30).tolist() == [3, 4, 5, 6]
    assert len(corpus.candidate_ids.row(0)) == 0
    assert corpus.target_texts[60].as_py() == "the colour of number 6 is good"
    assert corpus.num_visual_tokens == 2


def test_a_row_is_the_same_alone_and_among_others(corpus: PromptDataset, tokens: VIP5Tokenizer) -> None:
    rows = [4, 40, 70]
    batch = corpus.batch(rows)
    assert batch.families.tolist() == [0, 1, 2]
    assert batch.input_ids.shape == batch.whole_word_ids.shape == batch.category_ids.shape
    for index, row in enumerate(rows):
        alone = corpus.batch([row])
        length = alone.input_ids.shape[1]
        assert torch.equal(batch.input_ids[index, :length], alone.input_ids[0])
        assert torch.equal(batch.whole_word_ids[index, :length], alone.whole_word_ids[0])
        assert batch.input_ids[index, length:].eq(0).all()
        assert batch.attention_mask[index].sum() == length == corpus.lengths[row]
        targets = alone.labels.shape[1]
        assert torch.equal(batch.labels[index, :targets], alone.labels[0])
        assert batch.labels[index, targets:].eq(-100).all()
        source = prompt_rows(schema.FAMILIES[index])[row % NUM_USERS]["source"]
        expected = tokens.encode([source])[0]
        assert alone.input_ids[0].tolist() == expected.input_ids.tolist()
        assert alone.category_ids[0].tolist() == expected.category_ids.tolist()


def test_photos_are_in_text_order(corpus: PromptDataset, photos: PhotoTable) -> None:
    batch = corpus.batch([0, 60])  # user 1 bought items 3, 4 and 5; item 3 has no photo
    assert batch.image_features.shape == (2, 3, WIDTH)
    assert batch.image_present.tolist() == [[False, True, True], [True, False, False]]
    assert np.array_equal(batch.image_features[0].numpy(), photos.features[[3, 4, 5]])
    assert batch.category_ids[0].sum() == 6


def test_a_text_only_dataset_keeps_other_tokens_and_words(
    place: Context, corpus: PromptDataset, tokens: VIP5Tokenizer
) -> None:
    texts = PromptDataset.load(prompt_tables(place, "train"), tokens, None)
    batch, seeing = texts.batch([7]), corpus.batch([7])
    kept = seeing.category_ids[0] == 0
    assert torch.equal(batch.input_ids[0], seeing.input_ids[0, kept])
    assert torch.equal(batch.whole_word_ids[0], seeing.whole_word_ids[0, kept])
    assert batch.image_features.shape[1] == 0
    assert texts.num_visual_tokens == 0


def test_placeholders_that_do_not_match_photos_are_rejected(
    tmp_path: Path, place: Context, tokens: VIP5Tokenizer, photos: PhotoTable
) -> None:
    rows = [
        dict(row, example_id=i, split="train", family="sequential") for i, row in enumerate(prompt_rows("sequential"))
    ]
    rows[5]["source"] += " <extra_id_0>"
    table = schema.prompts("train", "sequential")
    write_table(tmp_path / "train" / "sequential", table, from_rows(table, rows), MADE)
    with pytest.raises(TableError, match=r"found 5 placeholders for 2 photos"):
        PromptDataset.load([tmp_path / "train" / "sequential"], tokens, photos)


def test_a_photo_of_an_unknown_item_is_rejected(place: Context, tokens: VIP5Tokenizer, photos: PhotoTable) -> None:
    fewer = replace(photos, features=photos.features[:5], present=photos.present[:5])
    with pytest.raises(TableError, match=r"photos of item 12; expected items up to 4"):
        PromptDataset.load(prompt_tables(place, "train"), tokens, fewer)


def test_an_epoch_holds_every_row_once_with_little_padding() -> None:
    lengths = rng(1, "lengths").integers(5, 400, 3000)
    targets = rng(1, "targets").integers(2, 9, 3000)
    plan = plan_batches(lengths, targets, batch_size=32, tokens_per_batch=4000, generator=rng(1, "plan"))
    assert sorted(np.concatenate(plan).tolist()) == list(range(3000))
    assert all(len(rows) <= 32 and len(rows) * lengths[rows].max() <= 4000 for rows in plan)
    assert padding_share(plan, lengths) < 0.06
    again = plan_batches(lengths, targets, batch_size=32, tokens_per_batch=4000, generator=rng(1, "plan"))
    assert all(np.array_equal(a, b) for a, b in zip(plan, again, strict=True))
    other = plan_batches(lengths, targets, batch_size=32, tokens_per_batch=4000, generator=rng(2, "plan"))
    assert not all(np.array_equal(a, b) for a, b in zip(plan, other, strict=False))


def test_plan_without_a_generator_is_in_length_order() -> None:
    plan = plan_batches(np.array([3, 9, 3, 9]), np.array([1, 1, 1, 1]), batch_size=2)
    assert [rows.tolist() for rows in plan] == [[0, 2], [1, 3]]


def test_a_row_above_the_token_limit_is_a_batch_of_its_own() -> None:
    plan = plan_batches(np.array([50, 5, 5]), np.array([1, 1, 1]), batch_size=8, tokens_per_batch=20)
    assert [rows.tolist() for rows in plan] == [[1, 2], [0]]


def test_ragged_rows_survive_taking_keeping_and_padding() -> None:
    rows = Ragged.from_rows([[5, 6], [], [7, 8, 9]])
    assert rows.take(np.array([2, 1, 0])).values.tolist() == [7, 8, 9, 5, 6]
    assert rows.padded(np.array([1, 2]), fill=-1).tolist() == [[-1, -1, -1], [7, 8, 9]]
    kept = rows.keep(rows.values % 2 == 1)
    assert [kept.row(i).tolist() for i in range(3)] == [[5], [], [7, 9]]
    assert len(Ragged.concatenate([rows, kept])) == 6


def test_null_lists_become_empty_ragged_rows() -> None:
    lists = pa.chunked_array([[[5, 6], None], [[], [7]]], pa.list_(pa.int32()))
    rows = Ragged.from_arrow(lists)
    assert [rows.row(i).tolist() for i in range(len(rows))] == [[5, 6], [], [], [7]]
    assert len(Ragged.from_arrow(lists.slice(0, 0))) == 0


def test_truncation_drops_oldest_items_and_keeps_the_question(
    place: Context, tokens: VIP5Tokenizer, photos: PhotoTable
) -> None:
    whole = PromptDataset.load(prompt_tables(place, "train"), tokens, photos)
    row = next(row for row in range(NUM_USERS) if len(whole.image_ids.row(row)) == 4)
    limit = int(whole.lengths[row]) - 1
    table = read_table(prompt_tables(place, "train")[0], schema.prompts("train", "sequential")).slice(row, 1)

    def loaded(truncate: str, max_source_tokens: int) -> PromptDataset:
        limited = VIP5Tokenizer(tokens.tokenizer, max_source_tokens=max_source_tokens, truncate=truncate)
        return PromptDataset(table, limited, photos)

    shorter = loaded("oldest", limit)
    text = shorter.source_texts[0].as_py()
    items = whole.image_ids.row(row).tolist()
    assert shorter.image_ids.row(0).tolist() == items[1:]
    assert text == whole.source_texts[row].as_py().replace(f"<item_{items[0]}> <extra_id_0> <extra_id_0> , ", "")
    assert text.endswith("what is next ?")
    assert shorter.lengths[0] <= limit
    features = shorter.batch([0]).image_features[0]
    assert torch.equal(features, torch.from_numpy(photos.features[items[1:]]))
    # `end`, as in the paper: keeps the oldest item and cuts off the question.
    cut = loaded("end", limit - 8)
    assert tokens.decode(cut.sources.row(0)[:-1]).endswith("is next ?") is False
    assert len(cut.image_ids.row(0)) == 4
    # Other prompts that are too long, and questions that are too long by themselves, are errors.
    with pytest.raises(InputError, match=r"set backbone\.truncate to end"):
        loaded("oldest", 8)
    assert torch.equal(loaded("oldest", 200).batch([0]).input_ids, whole.batch([row]).input_ids)


def test_the_newest_item_stays() -> None:
    text = "After 7 <extra_id_0> , 8 <extra_id_0> -> 9 <extra_id_0> , what next ?"
    assert without_oldest(text, lambda it: "8" not in it) == ("After 9 <extra_id_0> , what next ?", [0, 1])
    assert without_oldest(text, lambda it: False) == ("After 9 <extra_id_0> , what next ?", [0, 1])
    assert without_oldest(text, lambda it: True) == (text, [])
    asked = "Is 5 <extra_id_0> next after 7 <extra_id_0> , 8 <extra_id_0> ?"
    assert without_oldest(asked, lambda it: "7" not in it) == ("Is 5 <extra_id_0> next after 8 <extra_id_0> ?", [1])
