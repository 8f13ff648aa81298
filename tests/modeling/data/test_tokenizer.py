"""The tokenizer: identifiers are single tokens, whole words are counted, and long sources are rejected."""

import functools
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import InputError, ModelError, TrainingError
from features.prompts.rendering import plain, shown_name
from modeling.data.tokenizer import VIP5Tokenizer
from modeling.data.train_tokenizer import assemble, train_tokenizer

MARK = "\N{LOWER ONE EIGHTH BLOCK}"
LETTERS = "abcdefghijklmnopqrstuvwxyz_:,?0123456789"


@pytest.fixture
def tokens() -> VIP5Tokenizer:
    return made()


@functools.cache
def made() -> VIP5Tokenizer:
    """Ids: 3 is the word mark, single letters from 4, then four words, 100 sentinels and five identifiers."""
    words = [f"{MARK}{word}" for word in ("buy", "next", "user_", ",")]
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), (MARK, -2.0)]
    pieces += [(letter, -5.0) for letter in LETTERS] + [(word, -1.0) for word in words]
    return VIP5Tokenizer(assemble(pieces)).with_identifiers(["<item_10>", "<item_2>", "<a_1><b_0>", "<a_0><b_0>"])


def ids(tokens: VIP5Tokenizer, *texts: str) -> list[int]:
    return [tokens.tokenizer.token_to_id(text) for text in texts]


def test_vocabulary_is_laid_out_as_t5s(tokens: VIP5Tokenizer) -> None:
    base = 4 + len(LETTERS) + 4
    assert ids(tokens, "<pad>", "</s>", "<unk>") == [0, 1, 2]
    assert ids(tokens, "<extra_id_99>", "<extra_id_0>") == [base, base + 99]
    assert ids(tokens, "<a_0>", "<a_1>", "<b_0>", "<item_10>", "<item_2>") == list(range(base + 100, base + 105))
    assert tokens.identifier_ids.tolist() == list(range(base + 100, base + 105))
    assert tokens.size == base + 105


def test_identifiers_and_photos_are_split_and_words_counted(tokens: VIP5Tokenizer) -> None:
    (encoded,) = tokens.encode(["buy <item_2> <extra_id_0> <extra_id_0> , <item_10> \n next"])
    expected = [
        f"{MARK}buy",
        "<item_2>",
        "<extra_id_0>",
        "<extra_id_0>",
        f"{MARK},",
        "<item_10>",
        f"{MARK}next",
        "</s>",
    ]
    assert encoded.input_ids.tolist() == ids(tokens, *expected)
    assert encoded.whole_word_ids.tolist() == [1, 2, 3, 4, 5, 6, 7, 0]
    assert encoded.category_ids.tolist() == [0, 0, 1, 1, 0, 0, 0, 0]


def test_codes_of_one_item_share_a_whole_word(tokens: VIP5Tokenizer) -> None:
    (encoded,) = tokens.encode(["buy <a_1><b_0> , <a_0><b_0>"])
    assert encoded.whole_word_ids.tolist() == [1, 2, 2, 3, 4, 4, 0]


SPECIAL = st.sampled_from([*"<>/", "extra_id_", "item_", "a_", "b_", "0", "1", "10", "pad", "s", "unk", " ", "buy"])


@settings(max_examples=300, deadline=None)
@given(st.lists(SPECIAL, max_size=30))
def test_peoples_text_never_becomes_a_special_token(parts: list[str]) -> None:
    tokenizer = made()
    apart = {*tokenizer.identifier_ids.tolist(), *ids(tokenizer, "<pad>", "</s>", "<extra_id_0>")}
    text = "".join(parts)
    for shown in (plain(text), shown_name(text, "A1"), shown_name(None, text or "A1")):
        (encoded,) = tokenizer.encode([f"user {shown} , {shown}"])
        assert apart.isdisjoint(encoded.input_ids[:-1].tolist())


def test_text_that_looks_like_an_identifier_stays_text(tokens: VIP5Tokenizer) -> None:
    (encoded,) = tokens.encode(["buy <item_77> <item_2>"])
    assert encoded.input_ids.tolist()[0] == ids(tokens, f"{MARK}buy")[0]
    assert encoded.input_ids.tolist()[-2:] == [*ids(tokens, "<item_2>"), 1]
    assert len(encoded.input_ids) > 8


def test_order_of_texts_does_not_matter(tokens: VIP5Tokenizer) -> None:
    texts = ["buy <item_2>", "next", "", "user_7 <extra_id_0> , <item_10>"] * 3
    together = tokens.encode(texts)
    for text, encoded in zip(texts, together, strict=True):
        assert encoded.input_ids.tolist() == tokens.encode([text])[0].input_ids.tolist()
    assert together[2].input_ids.tolist() == [1]


def test_a_source_that_is_too_long_is_rejected_or_truncated(tokens: VIP5Tokenizer) -> None:
    short = VIP5Tokenizer(tokens.tokenizer, max_source_tokens=16)
    text = "buy " * 20
    with pytest.raises(InputError, match=r"source of 21 tokens .* at most 16 .* prompts\.max_history"):
        short.encode([text])
    cut = VIP5Tokenizer(tokens.tokenizer, max_source_tokens=16, truncate="end").encode([text])[0]
    assert cut.input_ids.tolist() == ids(tokens, f"{MARK}buy") * 15 + [1]
    assert cut.whole_word_ids.tolist() == [*range(1, 16), 0]


def test_targets_are_terminated_and_truncated(tokens: VIP5Tokenizer) -> None:
    one, two = tokens.encode_targets(["<item_2>", "buy buy buy"], 3)
    assert one.tolist() == [*ids(tokens, "<item_2>"), 1]
    assert two.tolist() == [*ids(tokens, f"{MARK}buy", f"{MARK}buy"), 1]


def test_decoding_stops_at_the_end_and_skips_padding(tokens: VIP5Tokenizer) -> None:
    assert tokens.decode([0, *ids(tokens, f"{MARK}buy", "<item_2>"), 1, 0, 7]) == "buy<item_2>"
    assert tokens.decode([0, *ids(tokens, "<a_1>", "<b_0>"), 1]) == "<a_1><b_0>"
    assert tokens.decode([0, *ids(tokens, f"{MARK}buy", f"{MARK}next"), 1]) == "buy next"


def test_saved_tokens_load_the_same(tokens: VIP5Tokenizer, tmp_path: Path) -> None:
    tokens.save(tmp_path)
    loaded = VIP5Tokenizer.load(tmp_path)
    text = ["buy <item_2> <extra_id_0> , <a_1><b_0> next ?"]
    assert loaded.encode(text)[0].input_ids.tolist() == tokens.encode(text)[0].input_ids.tolist()
    with pytest.raises(ModelError, match=r"no .*tokenizer\.json"):
        VIP5Tokenizer.load(tmp_path / "elsewhere")


def corpus_texts() -> list[str]:
    adjectives, nouns = ("red", "blue", "small", "soft"), ("guitar", "string", "stand")
    return [f"user_{i} likes the {adjectives[i % 4]} {nouns[i % 3]} <item_{i}> , <extra_id_0>" for i in range(60)]


def test_a_trained_tokenizer_does_not_depend_on_the_order() -> None:
    one: Any = train_tokenizer(corpus_texts(), 120)
    two: Any = train_tokenizer(reversed(corpus_texts()), 120)
    assert one.to_str() == two.to_str()
    tokens = VIP5Tokenizer(one)
    assert tokens.photo_id == tokens.size - 1
    (encoded,) = tokens.encode(["user_3 likes the soft stand"])
    assert 2 not in encoded.input_ids
    assert tokens.decode(encoded.input_ids) == "user_3 likes the soft stand"


def test_a_tokenizer_without_text_is_rejected() -> None:
    with pytest.raises(TrainingError, match="0 pieces of text, too few to train a tokenizer"):
        train_tokenizer([], 120)


def test_tokens_inside_a_word_are_told_from_its_start(tokens: VIP5Tokenizer) -> None:
    inside = set(tokens.continuation_ids.tolist())
    assert inside == set(ids(tokens, *(sign for sign in LETTERS if sign.isalnum())))
    apostrophes = VIP5Tokenizer(
        assemble([("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("'s", -1.0), ("-", -1.0), (".", -1.0)])
    )
    assert apostrophes.continuation_ids.tolist() == [3, 4]


def test_too_small_a_vocabulary_is_one_error_whose_size_suffices() -> None:
    texts = [f"{chr(0x4E00 + number) * 3} x" for number in range(300)]
    with pytest.raises(TrainingError, match=r"do: set backbone\.vocabulary_size to \d+") as caught:
        train_tokenizer(texts, 100)
    size = int(caught.value.action.split()[3].rstrip(","))
    assert train_tokenizer(texts, size).token_to_id("\u4e00") is not None
    with pytest.raises(TrainingError, match=r"0 pieces of text.*name a tokenizer folder"):
        train_tokenizer([], 100)
