"""Sampled sentences follow the model's distribution and the rules of a sentence."""

import numpy as np
import torch

from modeling.data.prompt_dataset import Batch
from modeling.decoding.sampled_sentences import sample_sentences
from modeling.decoding.sentence_beams import SentenceVocabulary
from modeling.models.vip5 import VIP5
from tests.modeling.decoding.test_sentence_beams import ALLOWED, EOS, SIZE, batch, model, vocabulary

__all__ = ["batch", "model", "vocabulary"]  # fixtures


def drawn(model: VIP5, batch: Batch, vocabulary: SentenceVocabulary, **changes: object) -> np.ndarray:
    rules = {"samples": 4000, "temperature": 1.0, "min_tokens": 1, "max_tokens": 3} | changes
    return sample_sentences(model, batch, vocabulary, generator=torch.Generator().manual_seed(3), **rules)  # type: ignore[arg-type]


def test_first_tokens_follow_the_models_distribution(model: VIP5, batch: Batch, vocabulary: SentenceVocabulary) -> None:
    tokens = drawn(model, batch, vocabulary, min_tokens=0)
    with torch.no_grad():
        start = torch.zeros(len(batch.families), 1, dtype=torch.long)
        logits = model.logits(start, model.encode(batch), batch.attention_mask, batch.families)[:, 0]
    shares = logits.masked_fill(~vocabulary.allowed, -torch.inf).softmax(-1).numpy()
    found = np.stack([np.bincount(row, minlength=SIZE) / tokens.shape[1] for row in tokens[:, :, 0]])
    assert np.abs(found - shares).max() < 0.04


def test_samples_keep_the_rules_and_depend_on_the_seed_only(
    model: VIP5, batch: Batch, vocabulary: SentenceVocabulary
) -> None:
    tokens = drawn(model, batch, vocabulary, samples=50, min_tokens=2, max_tokens=6)
    assert np.array_equal(tokens, drawn(model, batch, vocabulary, samples=50, min_tokens=2, max_tokens=6))
    for row in tokens.reshape(-1, tokens.shape[2]).tolist():
        words = row[: row.index(EOS)] if EOS in row else row
        assert len(words) >= 2
        assert set(words) <= set(ALLOWED) - {EOS}
        assert not any(row[len(words) + 1 :])


def test_a_low_temperature_samples_the_likeliest_token(
    model: VIP5, batch: Batch, vocabulary: SentenceVocabulary
) -> None:
    tokens = drawn(model, batch, vocabulary, samples=20, temperature=0.001)
    assert (tokens[:, :, 0] == tokens[:, :1, 0]).all()
