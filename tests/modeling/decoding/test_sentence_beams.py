"""Beam search for sentences against the exhaustive search over all short sequences."""

from itertools import pairwise, product

import numpy as np
import pytest
import torch

from modeling.config.model import Scratch
from modeling.data.prompt_dataset import Batch
from modeling.decoding.sentence_beams import SentenceVocabulary, decode_sentences
from modeling.models.t5 import new_t5
from modeling.models.vip5 import VIP5
from modeling.runtime.random_state import seeded
from tests.modeling.decoding.test_constrained_search import batch_of

EOS, SIZE = 1, 8
CONTINUES = (6, 7)  # tokens that continue a word
LONGEST = 4  # tokens, </s> included
ALLOWED = (EOS, 2, 3, 4, 6, 7)  # 0 is padding and 5 an item


def small_model(name: str, scale: float) -> VIP5:
    """A random model; larger token vectors make sharper distributions."""
    scratch = Scratch(d_model=16, d_ff=32, num_heads=2, d_kv=8, num_layers=1, num_decoder_layers=1)
    with seeded(5, name), torch.no_grad():
        made = VIP5(new_t5(scratch, vocabulary_size=SIZE, dropout=0.0))
        made.t5.shared.weight.mul_(scale)
    return made.eval()


@pytest.fixture(scope="module")
def model() -> VIP5:
    return small_model("sentence test", 2.0)


@pytest.fixture(scope="module")
def batch() -> Batch:
    return batch_of(torch.tensor([[3, 4, 5, EOS], [6, 7, EOS, 0], [2, 3, 7, EOS]]))


@pytest.fixture(scope="module")
def vocabulary() -> SentenceVocabulary:
    allowed, continues = torch.zeros(SIZE, dtype=torch.bool), torch.zeros(SIZE, dtype=torch.bool)
    allowed[list(ALLOWED)] = True
    continues[list(CONTINUES)] = True
    return SentenceVocabulary(allowed=allowed, continues=continues, eos_id=EOS)


def contains_word(tokens: tuple[int, ...], word: tuple[int, ...]) -> bool:
    """Whether `word` occurs and no token that continues a word follows it."""
    for first in range(len(tokens) - len(word) + 1):
        after = tokens[first + len(word) : first + len(word) + 1]
        if tokens[first : first + len(word)] == word and not set(after) & set(CONTINUES):
            return True
    return not word


def scores_of(model: VIP5, batch: Batch, row: int, sentences: list[tuple[int, ...]], exponent: float) -> torch.Tensor:
    """Scores of sentences of one length, which all end with </s>."""
    one, count = slice(row, row + 1), len(sentences)
    targets = torch.tensor(sentences)
    inputs = torch.cat([torch.zeros(count, 1, dtype=torch.long), targets[:, :-1]], 1)
    blocked = torch.ones(SIZE, dtype=torch.bool)
    blocked[list(ALLOWED)] = False
    with torch.no_grad():
        states = model.encode(batch)[one].expand(count, -1, -1)
        mask = batch.attention_mask[one].expand(count, -1)
        logits = model.logits(inputs, states, mask, batch.families[one].expand(count))
    log_probs = logits.masked_fill(blocked, -torch.inf).log_softmax(-1)
    totals: torch.Tensor = log_probs.gather(2, targets[..., None])[..., 0].sum(1) / targets.shape[1] ** exponent
    return totals


def best_score(
    model: VIP5, batch: Batch, row: int, *, min_tokens: int, exponent: float, word: tuple[int, ...]
) -> float:
    """The highest score of all valid sequences that end within LONGEST tokens."""
    plain = [token for token in ALLOWED if token != EOS]
    best = -np.inf
    for length in range(min_tokens, LONGEST):
        every = [tokens for tokens in product(plain, repeat=length) if contains_word(tokens, word)]
        valid = [(*tokens, EOS) for tokens in every if len(set(pairwise(tokens))) == length - 1]
        if valid:
            best = max(best, float(scores_of(model, batch, row, valid, exponent).max()))
    return best


@pytest.mark.parametrize("min_tokens", [1, 2])
@pytest.mark.parametrize("exponent", [0.0, 1.0])
@pytest.mark.parametrize("words", [[(), (), ()], [(3,), (4, 6), ()], [(2,), (2, 7), (3, 6)]])
def test_wide_beams_find_the_best_sentence(
    model: VIP5, batch: Batch, vocabulary: SentenceVocabulary, min_tokens: int, exponent: float,
    words: list[tuple[int, ...]],
) -> None:  # fmt: skip
    found = decode_sentences(
        model, batch, vocabulary, beams=130, min_tokens=min_tokens, max_tokens=LONGEST, length_exponent=exponent,
        required=words,
    )  # fmt: skip
    for row, word in enumerate(words):
        sentence = tuple(found[row].tolist()[: found[row].tolist().index(EOS) + 1])
        best = best_score(model, batch, row, min_tokens=min_tokens, exponent=exponent, word=word)
        assert float(scores_of(model, batch, row, [sentence], exponent)) == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("beams", [1, 3])
def test_narrow_beams_keep_every_rule(model: VIP5, batch: Batch, vocabulary: SentenceVocabulary, beams: int) -> None:
    words = [(3,), (4, 6), (2, 7, 6)]
    found = decode_sentences(
        model, batch, vocabulary, beams=beams, min_tokens=5, max_tokens=12, length_exponent=1.0, required=words
    )
    for row, word in zip(found.tolist(), words, strict=True):
        tokens = tuple(row[: row.index(EOS)]) if EOS in row else tuple(row)
        assert len(tokens) >= 5
        assert set(tokens) <= set(ALLOWED)
        assert contains_word(tokens, word)
        assert len(set(pairwise(tokens))) == len(tokens) - 1


def greedy_of(model: VIP5, batch: Batch, row: int, vocabulary: SentenceVocabulary, steps: int) -> list[int]:
    """The most likely allowed token after every prefix, up to </s>, padded with 0."""
    one = torch.tensor([row])
    states, mask, families = model.encode(batch)[one], batch.attention_mask[one], batch.families[one]
    tokens: list[int] = []
    while len(tokens) < steps and EOS not in tokens:
        with torch.no_grad():
            logits = model.logits(torch.tensor([[0, *tokens]]), states, mask, families)
        tokens.append(int(logits[0, -1].masked_fill(~vocabulary.allowed, -torch.inf).argmax()))
    return tokens + [0] * (steps - len(tokens))


@pytest.mark.parametrize("exponent", [0.0, 1.0])
def test_one_beam_without_rules_is_greedy(batch: Batch, vocabulary: SentenceVocabulary, exponent: float) -> None:
    model = small_model("greedy test 35", 4.0)
    found = decode_sentences(
        model, batch, vocabulary, beams=1, min_tokens=0, max_tokens=9, length_exponent=exponent,
        forbid_repeated_pairs=False,
    )  # fmt: skip
    expected = [greedy_of(model, batch, row, vocabulary, 8) for row in range(3)]
    assert found[:, :8].tolist() == expected
    assert len({([*row, EOS]).index(EOS) for row in expected}) > 1, "rows end at different steps"


@pytest.mark.parametrize("row", [0, 2])
def test_a_sentence_does_not_depend_on_its_batch(batch: Batch, vocabulary: SentenceVocabulary, row: int) -> None:
    model = small_model("greedy test 35", 4.0)
    alone = batch_of(batch.input_ids[row : row + 1])
    for beams in (1, 2):
        together = decode_sentences(
            model, batch, vocabulary, beams=beams, min_tokens=1, max_tokens=9, length_exponent=1.0
        )
        single = decode_sentences(
            model, alone, vocabulary, beams=beams, min_tokens=1, max_tokens=9, length_exponent=1.0
        )
        assert single[0].tolist() == together[row].tolist()


def test_without_words_one_beam_is_greedy(model: VIP5, batch: Batch, vocabulary: SentenceVocabulary) -> None:
    found = decode_sentences(
        model, batch, vocabulary, beams=1, min_tokens=1, max_tokens=2, length_exponent=1.0, required=None
    )
    with torch.no_grad():
        first = model.logits(
            torch.zeros(3, 1, dtype=torch.long), model.encode(batch), batch.attention_mask, batch.families
        )
    blocked = ~vocabulary.allowed
    blocked[EOS] = True  # a sentence has at least one token
    assert found[:, 0].tolist() == first[:, 0].masked_fill(blocked, -torch.inf).argmax(-1).tolist()
