"""Initialisation from scratch: identity, recency, and spectral item embeddings."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from features.errors import ParamsError
from modeling.collaborative.spectral import spectral_embeddings
from modeling.config.model import Scratch
from modeling.data.ragged import Ragged, offsets_of
from modeling.data.title_vocabulary import items_by_word, words_of
from modeling.data.tokenizer import VIP5Tokenizer
from modeling.data.train_tokenizer import train_tokenizer
from modeling.models.init_item_embeddings import init_item_embeddings
from modeling.models.init_recency import init_recency
from modeling.models.t5 import new_t5
from modeling.runtime.random_state import seeded

SIZE = Scratch(d_model=16, d_ff=32, num_heads=2, d_kv=8, num_layers=2, num_decoder_layers=2, init="identity")
TEXTS = ["Which thing does the user with number 7 buy next, of all there are?", "Say it in one short sentence."]


def bought(*rows: list[int]) -> Ragged:
    lengths = np.array([0, *(len(row) for row in rows)])
    return Ragged(np.concatenate([np.array(row) for row in rows]), offsets_of(lengths))


GROUPS = bought(*[[1, 2, 3]] * 4, *[[4, 5, 6]] * 4, [3, 4])


def tokens(texts: list[str]) -> VIP5Tokenizer:
    return VIP5Tokenizer(train_tokenizer(TEXTS * 20, 60)).with_identifiers(texts)


def test_identity_init_encoder_only_normalises_its_input() -> None:
    with seeded(1, "test"):
        t5 = new_t5(SIZE, vocabulary_size=30, dropout=0.0).eval()
        given = torch.randn(2, 5, 16)
    states = t5.encoder(inputs_embeds=given).last_hidden_state
    torch.testing.assert_close(states, t5.encoder.final_layer_norm(given))


def test_identity_init_decoder_adds_the_encoder_input() -> None:
    with seeded(1, "test"):
        t5 = new_t5(SIZE, vocabulary_size=30, dropout=0.0).eval()
        state = torch.randn(1, 1, 16)
    hidden = t5.decoder(input_ids=torch.zeros(1, 1, dtype=torch.long), encoder_hidden_states=state.expand(1, 4, 16))
    whole = t5.shared.weight[0] + SIZE.num_decoder_layers * state[0, 0]
    torch.testing.assert_close(hidden.last_hidden_state[0, 0], t5.decoder.final_layer_norm(whole))


def test_a_scratch_t5_has_default_init_unless_configured() -> None:
    assert Scratch().init == "default"
    with seeded(1, "test"):
        t5 = new_t5(Scratch(d_model=16, d_ff=32, num_heads=2, d_kv=8, num_layers=1, num_decoder_layers=1),
                    vocabulary_size=30, dropout=0.0)  # fmt: skip
    assert t5.encoder.block[0].layer[0].SelfAttention.o.weight.abs().min() > 0


def test_items_with_common_users_have_similar_embeddings() -> None:
    texts = [f"<item_{i}>" for i in (3, 1, 4, 10, 5, 9)]  # numbers in identifiers differ from item_ids
    own = tokens(texts)
    table = torch.full((own.size, 2), 7.0)  # the two directions that separate the groups
    assert init_item_embeddings(table, own, texts, GROUPS, rms=0.25, seed=3) == 6
    ids = [own.tokenizer.token_to_id(text) for text in texts]
    rows = table[ids]
    torch.testing.assert_close(rows.square().mean(1).sqrt(), torch.full((6,), 0.25))
    likeness = torch.nn.functional.normalize(rows, dim=1) @ torch.nn.functional.normalize(rows, dim=1).T
    assert likeness[:3, :3].min() > likeness[:3, 3:].max() + 0.2
    others = [token for token in range(own.size) if token not in ids]
    assert (table[others] == 7.0).all(), "text tokens stay as drawn"


def test_a_shared_code_is_initialised_with_the_mean() -> None:
    texts = ["<a_1><b_1>", "<a_1><b_2>", "<a_1><b_3>", "<a_2><b_1>", "<a_2><b_2>", "<a_2><b_3>"]
    own = tokens(texts)
    table = torch.zeros(own.size, 2)
    assert init_item_embeddings(table, own, texts, GROUPS, rms=1.0, seed=3) == 5
    one, two, shared = (table[own.tokenizer.token_to_id(name)] for name in ("<a_1>", "<a_2>", "<b_1>"))
    assert torch.cosine_similarity(one, shared, dim=0) > 0.3 < torch.cosine_similarity(two, shared, dim=0)
    assert torch.cosine_similarity(one, two, dim=0) < 0.5


def test_plain_numbers_have_no_tokens_to_initialise() -> None:
    own = tokens([])
    with pytest.raises(ParamsError, match=r"item_embedding_init.*random, or an identifiers"):
        init_item_embeddings(torch.zeros(own.size, 16), own, ["17", "18"], GROUPS, rms=0.5, seed=3)


def test_title_words_relate_items_without_common_users() -> None:
    titles = [
        "Red wooden train",
        "Blue train",
        None,
        "Green puzzle",
        "Small puzzle",
        "Puzzle of a red house",
        *["-"] * 114,
    ]
    assert words_of(titles[:3]).row(1).tolist() == [3, 2]
    words = items_by_word(titles)
    assert [words.row(place).tolist() for place in range(len(words))] == [
        [1, 6],
        [1, 2],
        [4, 5, 6],
    ]  # red, train, puzzle
    vectors = spectral_embeddings(bought([1, 4], [2, 3]), 120, 4, seed=1, words=words)
    likeness = vectors[3] @ vectors.T  # to item 4, which shares a word with item 5 and users with item 1
    assert likeness[4] > 0.4 > likeness[[1, 2, 5]].max()


def recency_t5(texts: list[str], lengths: Sequence[float] = (1.0,), kind: str = "relu") -> tuple[Any, VIP5Tokenizer]:
    """A T5 with recency initialisation and orthogonal item embeddings."""
    own = tokens(texts)
    with seeded(1, "test"):
        t5 = new_t5(
            Scratch(d_model=128, d_ff=32, num_heads=4, d_kv=32, num_layers=2, num_decoder_layers=1, init="recency",
                    embedding_scale=0.1, feed_forward_proj=kind),
            vocabulary_size=own.size, dropout=0.0).eval()  # fmt: skip
        with torch.no_grad():
            ids = [own.tokenizer.token_to_id(text) for text in texts]
            sizes = torch.tensor(lengths).repeat(len(texts))[: len(texts), None]
            t5.shared.weight[ids] = 0.5 * 128**0.5 * torch.eye(128)[: len(texts)] * sizes
    init_recency(t5, own)
    return t5, own


@pytest.mark.parametrize("tail", ["", " , what next ?", " : which next ?"])
def test_recency_init_predicts_the_last_items_first(tail: str) -> None:
    items = [f"<item_{number}>" for number in range(1, 31)]
    t5, own = recency_t5(items)
    named = np.random.default_rng(1).permuted(np.tile(np.arange(30), (40, 1)), axis=1)[:, :3]
    texts = [f"After {' , '.join(items[item] for item in row)}{tail}" for row in named]
    sources = torch.tensor(np.stack(own.encode_targets(texts, 64)))
    with torch.no_grad():
        logits = t5(input_ids=sources, decoder_input_ids=torch.zeros(40, 1, dtype=torch.long)).logits[:, 0]
    scores = logits[:, [own.tokenizer.token_to_id(text) for text in items]]
    first, second, last = scores.gather(1, torch.from_numpy(named)).mean(0).tolist()
    others = float(scores.sum(1).mean() - first - second - last) / 27
    assert last > second + 1 > first + 1.5 > others + 1.8


def test_attention_does_not_depend_on_the_norm_of_items() -> None:
    items = [f"<item_{number}>" for number in range(1, 31)]
    shares = {}
    for lengths in ((1.0,), (0.5, 2.0)):  # the second item of the prompt is four times as long as the first
        t5, own = recency_t5(items, lengths)
        source = torch.tensor(np.stack(own.encode_targets(["After <item_1> , <item_2> , what next ?"], 64)))
        with torch.no_grad():
            logits = t5(input_ids=source, decoder_input_ids=torch.zeros(1, 1, dtype=torch.long)).logits[0, 0]
        own_lengths = (lengths * 2)[:2]
        first, second = (
            float(logits[own.tokenizer.token_to_id(text)]) / size
            for text, size in zip(items[:2], own_lengths, strict=True)
        )
        shares[lengths] = first / second
    assert shares[0.5, 2.0] == pytest.approx(shares[1.0,], rel=0.05)


@pytest.mark.parametrize("kind", ["relu", "gated-gelu"])
def test_recency_init_ends_after_an_item_only(kind: str) -> None:
    items = [f"<item_{number}>" for number in range(1, 31)]
    t5, own = recency_t5(items, kind=kind)
    source = torch.tensor(np.stack(own.encode_targets(["After <item_1> , <item_2> , what next ?"], 64)))
    answer = torch.tensor([[0, own.tokenizer.token_to_id("<item_7>")]])
    with torch.no_grad():
        probabilities = t5(input_ids=source, decoder_input_ids=answer).logits[0].softmax(-1)
    assert probabilities[1, own.eos_id] > 0.9 > 0.05 > probabilities[0, own.eos_id]


def test_recency_init_needs_item_tokens() -> None:
    own = tokens([])
    t5 = new_t5(SIZE, vocabulary_size=own.size, dropout=0.0)
    with pytest.raises(ParamsError, match=r"init: recency with .* identity, or an identifiers"):
        init_recency(t5, own)
