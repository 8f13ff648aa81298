"""Which feature word a row has, and which tokens its sentence must contain."""

import pyarrow as pa
import torch

from modeling.data.tokenizer import VIP5Tokenizer
from modeling.data.train_tokenizer import assemble
from modeling.decoding.sentence_beams import SentenceVocabulary
from modeling.evaluation.generate_explanations import features_of, hint_of, required_words

MARK = "\N{LOWER ONE EIGHTH BLOCK}"


def test_features_are_found_with_and_without_the_item() -> None:
    table = pa.table({"user_id": [1, 1], "item_id": [7, 7], "sentence": ["Good.", "Good."], "feature": ["lid", "cord"]})
    assert features_of(table) == {(1, 7, "Good."): ["lid", "cord"], (1, 0, "Good."): ["lid", "cord"]}


def test_the_hint_is_the_word_that_the_prompt_names() -> None:
    assert hint_of("judge the cord of <item_7>", ["lid", "cord"]) == "cord"
    assert hint_of("judge the cords of <item_7>", ["lid", "cord"]) == "lid"
    assert hint_of("judge <item_7>", []) == ""


def test_words_that_cannot_be_written_are_not_required() -> None:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), (MARK, -2.0), (f"{MARK}lid", -1.0)]
    tokens = VIP5Tokenizer(assemble([*pieces, *((letter, -5.0) for letter in "cord")]))
    allowed = torch.zeros(tokens.size, dtype=torch.bool)
    allowed[tokens.word_ids.tolist()] = True
    vocabulary = SentenceVocabulary(allowed=allowed, continues=torch.zeros_like(allowed), eos_id=1)
    words = required_words(tokens, vocabulary, ["lid", "cord", "", "zip", "lid"], max_tokens=6)
    assert words == [[4], [3, 5, 6, 7, 8], [], [], [4]]
    assert required_words(tokens, vocabulary, ["lid", "cord"], max_tokens=5) == [[4], []]
    allowed[4] = False
    assert required_words(tokens, vocabulary, ["lid"], max_tokens=6) == [[]]
