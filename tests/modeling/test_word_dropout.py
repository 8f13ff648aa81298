"""Word dropout takes whole stretches of words out of next-item prompts, and nothing else out of any prompt."""

import numpy as np
import pytest

from modeling.batches import Corpus
from modeling.word_dropout import without_some_words
from tests.modeling.test_named_items import corpus as corpus  # noqa: PLC0414  # a fixture
from tests.modeling.world import NUM_USERS


def names(corpus: Corpus, row: int) -> list[str]:
    return [corpus.tokens.tokenizer.id_to_token(int(token)) for token in corpus.sources.row(row)]


def stretches(tokens: list[str]) -> list[str]:
    """The words before, between and behind items, each stretch as one string; the end of sequence is no word."""
    found = [""]
    for token in tokens[:-1]:
        if token.startswith("<"):
            found.append("")
        else:
            found[-1] += token
    return found


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_whole_stretches_go_as_often_as_asked(corpus: Corpus, share: float) -> None:
    fewer = without_some_words(corpus, share, seed=1, stage="train")
    before, after = [], []
    for row in range(NUM_USERS):  # the sequential rows
        before += stretches(names(corpus, row))
        after += stretches(names(fewer, row))
    assert len(before) == len(after)  # no item went
    assert all(new in {"", old} for old, new in zip(before, after, strict=True))
    gone = [not new for old, new in zip(before, after, strict=True) if old]
    assert np.mean(gone) == pytest.approx(share, abs=0.15)
    assert (fewer.words.lengths == fewer.sources.lengths).all()
    assert all(fewer.sources.row(row)[-1] == corpus.tokens.eos_id for row in range(len(fewer)))


def test_other_prompts_keep_their_words_and_a_seed_draws_the_same(corpus: Corpus) -> None:
    fewer = without_some_words(corpus, 0.9, seed=1, stage="train")
    for row in range(NUM_USERS, len(corpus)):  # lists to choose from, and explanations
        np.testing.assert_array_equal(fewer.sources.row(row), corpus.sources.row(row))
    again = without_some_words(corpus, 0.9, seed=1, stage="train")
    np.testing.assert_array_equal(again.sources.values, fewer.sources.values)
    other = without_some_words(corpus, 0.9, seed=2, stage="train")
    assert other.sources.values.tolist() != fewer.sources.values.tolist()
    assert corpus.sources.lengths.sum() > fewer.sources.lengths.sum()  # the corpus itself is as it was
