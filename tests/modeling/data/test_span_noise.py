"""Span noise drops or replaces whole text spans of next-item prompts and changes nothing else."""

import numpy as np
import pytest

from modeling.data.prompt_dataset import PromptDataset
from modeling.data.span_noise import with_span_noise
from tests.modeling.data.test_seen_item_mask import corpus as corpus  # noqa: PLC0414  # a fixture
from tests.modeling.world import NUM_USERS


def spans(corpus: PromptDataset, row: int) -> list[list[int]]:
    """Token ids of the text before, between and after items, without the end of sequence."""
    found: list[list[int]] = [[]]
    for token in corpus.sources.row(row)[:-1].tolist():
        if token in corpus.tokens.identifier_ids:
            found.append([])
        else:
            found[-1].append(token)
    return found


@pytest.mark.parametrize("share", [0.3, 0.8])
def test_whole_spans_change_at_the_given_rate(corpus: PromptDataset, share: float) -> None:
    noisy = with_span_noise(corpus, share, seed=1, stage="train")
    gone, other = [], []
    for row in range(NUM_USERS):  # the sequential rows
        before, after = spans(corpus, row), spans(noisy, row)
        assert len(before) == len(after)  # no item is dropped
        for old, new in zip(before, after, strict=True):
            if old:
                gone.append(not new)
                other.append(bool(new) and new != old)
                assert len(new) in {0, len(old)}
                assert new == old or set(new) <= set(corpus.tokens.word_ids.tolist())
        items = np.isin(corpus.sources.row(row), corpus.tokens.identifier_ids)
        kept = noisy.sources.row(row)
        assert kept[np.isin(kept, corpus.tokens.identifier_ids)].tolist() == corpus.sources.row(row)[items].tolist()
        assert kept[-1] == corpus.tokens.eos_id
    assert np.mean(gone) == pytest.approx(share / 2, abs=0.1)
    assert np.mean(other) == pytest.approx(share / 2, abs=0.1)
    assert (noisy.words.lengths == noisy.sources.lengths).all()


def test_other_prompts_are_unchanged_and_the_seed_decides(corpus: PromptDataset) -> None:
    noisy = with_span_noise(corpus, 0.9, seed=1, stage="train")
    for row in range(NUM_USERS, len(corpus)):  # direct prompts and explanations
        np.testing.assert_array_equal(noisy.sources.row(row), corpus.sources.row(row))
    again = with_span_noise(corpus, 0.9, seed=1, stage="train")
    np.testing.assert_array_equal(again.sources.values, noisy.sources.values)
    other = with_span_noise(corpus, 0.9, seed=2, stage="train")
    assert other.sources.values.tolist() != noisy.sources.values.tolist()
    assert corpus.sources.lengths.sum() > noisy.sources.lengths.sum()  # the corpus itself is unchanged
