"""Where a model made from nothing starts: sub-layers that pass through, and item vectors from the purchases."""

import numpy as np
import pytest
import torch

from features.errors import ParamsError
from modeling.backbone import new_t5, seeded
from modeling.item_start import start_items
from modeling.ragged import Ragged, offsets_of
from modeling.settings import Scratch
from modeling.tokenizer_training import train_tokenizer
from modeling.tokens import Tokens

SIZE = Scratch(d_model=16, d_ff=32, num_heads=2, d_kv=8, num_layers=2, num_decoder_layers=2, start="pass_through")
TEXTS = ["Which thing does the user with number 7 buy next, of all there are?", "Say it in one short sentence."]


def bought(*rows: list[int]) -> Ragged:
    lengths = np.array([0, *(len(row) for row in rows)])
    return Ragged(np.concatenate([np.array(row) for row in rows]), offsets_of(lengths))


GROUPS = bought(*[[1, 2, 3]] * 4, *[[4, 5, 6]] * 4, [3, 4])


def tokens(texts: list[str]) -> Tokens:
    return Tokens(train_tokenizer(TEXTS * 20, 60)).with_identifiers(texts)


def test_pass_through_encoder_only_normalises_its_input() -> None:
    with seeded(1, "test"):
        t5 = new_t5(SIZE, vocabulary_size=30, dropout=0.0).eval()
        given = torch.randn(2, 5, 16)
    states = t5.encoder(inputs_embeds=given).last_hidden_state
    torch.testing.assert_close(states, t5.encoder.final_layer_norm(given))


def test_pass_through_decoder_adds_what_the_encoder_was_given() -> None:
    with seeded(1, "test"):
        t5 = new_t5(SIZE, vocabulary_size=30, dropout=0.0).eval()
        state = torch.randn(1, 1, 16)
    hidden = t5.decoder(input_ids=torch.zeros(1, 1, dtype=torch.long), encoder_hidden_states=state.expand(1, 4, 16))
    whole = t5.shared.weight[0] + SIZE.num_decoder_layers * state[0, 0]
    torch.testing.assert_close(hidden.last_hidden_state[0, 0], t5.decoder.final_layer_norm(whole))


def test_a_scratch_t5_starts_from_noise_unless_asked() -> None:
    assert Scratch().start == "noise"
    with seeded(1, "test"):
        t5 = new_t5(Scratch(d_model=16, d_ff=32, num_heads=2, d_kv=8, num_layers=1, num_decoder_layers=1),
                    vocabulary_size=30, dropout=0.0)  # fmt: skip
    assert t5.encoder.block[0].layer[0].SelfAttention.o.weight.abs().min() > 0


def test_items_with_common_buyers_start_near_each_other() -> None:
    texts = [f"<item_{i}>" for i in (3, 1, 4, 10, 5, 9)]  # written numbers are not the item_ids
    own = tokens(texts)
    table = torch.full((own.size, 2), 7.0)  # the two directions that tell the groups apart
    assert start_items(table, own, texts, GROUPS, spread=0.25, seed=3) == 6
    ids = [own.tokenizer.token_to_id(text) for text in texts]
    rows = table[ids]
    torch.testing.assert_close(rows.square().mean(1).sqrt(), torch.full((6,), 0.25))
    likeness = torch.nn.functional.normalize(rows, dim=1) @ torch.nn.functional.normalize(rows, dim=1).T
    assert likeness[:3, :3].min() > likeness[:3, 3:].max() + 0.2
    others = [token for token in range(own.size) if token not in ids]
    assert (table[others] == 7.0).all(), "text tokens stay as drawn"


def test_a_code_that_items_share_starts_as_their_mean() -> None:
    texts = ["<a_1><b_1>", "<a_1><b_2>", "<a_1><b_3>", "<a_2><b_1>", "<a_2><b_2>", "<a_2><b_3>"]
    own = tokens(texts)
    table = torch.zeros(own.size, 2)
    assert start_items(table, own, texts, GROUPS, spread=1.0, seed=3) == 5
    one, two, shared = (table[own.tokenizer.token_to_id(name)] for name in ("<a_1>", "<a_2>", "<b_1>"))
    assert torch.cosine_similarity(one, shared, dim=0) > 0.3 < torch.cosine_similarity(two, shared, dim=0)
    assert torch.cosine_similarity(one, two, dim=0) < 0.5


def test_numbers_have_no_tokens_to_start() -> None:
    own = tokens([])
    with pytest.raises(ParamsError, match=r"item_vectors.*random, or another"):
        start_items(torch.zeros(own.size, 16), own, ["17", "18"], GROUPS, spread=0.5, seed=3)
