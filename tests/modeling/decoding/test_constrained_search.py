"""Constrained search returns existing, allowed items once with exact scores; wide beams are exhaustive."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from modeling.config.model import AdapterParams, Scratch, VisionParams
from modeling.data.prompt_dataset import Batch
from modeling.decoding.constrained_search import constrained_beam_search, score_items
from modeling.decoding.prefix_tree import PAD, PrefixTree, build_tree
from modeling.decoding.sentence_beams import SentenceVocabulary, decode_sentences
from modeling.decoding.tree_decoder import NO_NODE, TreeDecoder, encode_unpadded, start
from modeling.decoding.unconstrained_beams import parse_items, unconstrained_beam_search
from modeling.kernels.unpadding import Unpadding
from modeling.models.t5 import new_t5
from modeling.models.vip5 import VIP5
from modeling.runtime.random_state import seeded
from tests.modeling.golden import GOLDEN, golden_model, need

EOS, VOCABULARY = 1, 12
CODES = st.lists(st.lists(st.integers(2, 5), min_size=1, max_size=3).map(tuple), min_size=2, max_size=20, unique=True)


def batch_of(input_ids: torch.Tensor) -> Batch:
    rows = len(input_ids)
    return Batch(
        input_ids=input_ids,
        whole_word_ids=torch.zeros_like(input_ids),
        category_ids=torch.zeros_like(input_ids),
        attention_mask=input_ids > 0,
        image_features=torch.zeros(rows, 0, 1),
        image_present=torch.zeros(rows, 0, dtype=torch.bool),
        labels=torch.full((rows, 1), EOS),
        families=torch.zeros(rows, dtype=torch.long),
    )


@pytest.fixture(scope="module")
def model() -> VIP5:
    scratch = Scratch(d_model=16, d_ff=32, num_heads=2, d_kv=8, num_layers=1, num_decoder_layers=1)
    with seeded(3, "decoding test"):
        made = VIP5(new_t5(scratch, vocabulary_size=VOCABULARY, dropout=0.0))
        with torch.no_grad():
            made.t5.shared.weight.mul_(4.0)
    return made.eval()


@pytest.fixture(scope="module")
def batch() -> Batch:
    return batch_of(torch.tensor([[3, 4, 5, EOS], [6, 7, EOS, 0], [8, 9, 10, EOS]]))


def exhaustive(model: VIP5, batch: Batch, tree: PrefixTree) -> npt.NDArray[np.float64]:
    """(B, I) log-probability of every item, one teacher-forced pass an item and row."""
    states = model.encode(batch)
    scores = np.zeros((len(batch), tree.num_items))
    for item, padded in enumerate(tree.tokens):
        tokens = torch.from_numpy(padded[padded != PAD])
        inputs = torch.cat([torch.zeros(1, dtype=torch.long), tokens[:-1]]).expand(len(batch), -1)
        with torch.no_grad():
            log_probs = model.logits(inputs, states, batch.attention_mask, batch.families).log_softmax(-1)
        scores[:, item] = log_probs[:, torch.arange(len(tokens)), tokens].sum(1).numpy()
    return scores


@settings(max_examples=25, deadline=None)
@given(codes=CODES, data=st.data())
def test_wide_beams_equal_exhaustive_scoring(
    model: VIP5, batch: Batch, codes: list[tuple[int, ...]], data: st.DataObject
) -> None:
    tree = build_tree(codes, eos_id=EOS)
    mask = st.lists(st.booleans(), min_size=len(codes), max_size=len(codes))
    allowed = np.array([data.draw(mask) for _ in range(len(batch))])
    ranked = constrained_beam_search(model, batch, tree, allowed, beam=100, top_k=len(codes))
    expected = exhaustive(model, batch, tree)
    for row in range(len(batch)):
        named = ranked.items[row][ranked.items[row] > 0]
        assert sorted(named.tolist()) == (np.flatnonzero(allowed[row]) + 1).tolist()
        assert (np.diff(ranked.scores[row][: len(named)]) <= 0).all()
        np.testing.assert_allclose(ranked.scores[row][: len(named)], expected[row, named - 1], atol=1e-4)
        assert np.isneginf(ranked.scores[row][len(named) :]).all()


@pytest.mark.parametrize(
    "codes", [[(3,), (5,), (4,), (9,)], [(3, 4), (3, 5), (6, 4), (6, 7)], [(3,), (3, 4), (5,), (6, 6)]]
)
def test_candidates_have_the_scores_of_the_exhaustive_pass(
    model: VIP5, batch: Batch, codes: list[tuple[int, ...]]
) -> None:
    tree = build_tree(codes, eos_id=EOS)
    candidates = np.array([[4, 2, 1], [1, 3, 0], [2, 3, 4]])
    found = score_items(model, batch, tree, candidates)
    expected = np.take_along_axis(exhaustive(model, batch, tree), np.maximum(candidates, 1) - 1, 1)
    np.testing.assert_allclose(found[candidates > 0], expected[candidates > 0], atol=1e-5)
    assert np.isneginf(found[1, 2])


@pytest.fixture(
    scope="module",
    params=[("bottleneck", [0, 1, 2]), ("bottleneck", [1, 1, 1]), ("lora", [1, 1, 1])],
    ids=["families", "one family", "lora"],
)
def full(request: pytest.FixtureRequest) -> tuple[VIP5, Batch]:
    """A model with adapters a family and photos, every part of it random, and rows of several lengths."""
    scratch = Scratch(d_model=16, d_ff=32, num_heads=2, d_kv=8, num_layers=2, num_decoder_layers=2)
    with seeded(4, "decoding test"):
        model = VIP5(
            new_t5(scratch, vocabulary_size=VOCABULARY, dropout=0.1),
            adapters=AdapterParams(kind=request.param[0], reduction=4, init="linear", routing="per_family"),
            vision=VisionParams(width=3, num_visual_tokens=1),
        )
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "up_weight" in name:
                    parameter.normal_(std=0.3)
            model.t5.shared.weight.mul_(4.0)
            for part in (model.t5.encoder, model.t5.decoder):
                part.block[0].layer[0].SelfAttention.relative_attention_bias.weight.normal_()
        features = torch.randn(3, 2, 3)
    ids = torch.tensor([[3, 4, 9, 9, 5, EOS], [6, 9, 7, EOS, 0, 0], [8, 9, 10, 9, EOS, 0]])
    rows = batch_of(ids)
    rows = replace(
        rows,
        category_ids=(ids == 9).long(),
        image_features=features,
        image_present=torch.tensor([[True, False], [True, False], [True, True]]),
        families=torch.tensor(request.param[1]),
    )
    return model.eval(), rows


def test_the_encoder_for_inference_is_the_models(full: tuple[VIP5, Batch]) -> None:
    model, rows = full
    for batch in (rows, replace(rows, attention_mask=torch.ones_like(rows.attention_mask))):
        with torch.no_grad():
            expected = model.encode(batch)
        real = batch.attention_mask
        unpadding = Unpadding.of(real, batch.families)
        found = encode_unpadded(model, batch, unpadding)
        assert found.shape[:2] == ((1, 15) if batch is rows and len(set(rows.families.tolist())) == 1 else (3, 6))
        torch.testing.assert_close(unpadding.pad(found)[real], expected[real])


def test_a_node_has_the_states_of_its_prefix(full: tuple[VIP5, Batch]) -> None:
    """Nodes added in several calls, below different parents, against the library's decoder on each prefix alone."""
    model, rows = full
    decoder = TreeDecoder(model, rows)
    prefixes = [(0,), (0, 3), (0, 5), (0, 5, 7), (0, 3, 7), (0, 5, 8), (0, 5, 8, 2)]
    calls = [[0], [1, 2], [3, 4, 5], [6]]
    with torch.no_grad():
        states = model.encode(rows)
        for call in calls:
            length = max(len(prefixes[node]) for node in call)
            paths = torch.full((3, len(call), length), NO_NODE)
            for place, node in enumerate(call):
                path = [prefixes.index(prefixes[node][: end + 1]) for end in range(len(prefixes[node]))]
                paths[:, place, : len(path)] = torch.tensor(path)
            found = decoder.decode_nodes(torch.tensor([[prefixes[node][-1] for node in call]]).expand(3, -1), paths)
            for place, node in enumerate(call):
                inputs = torch.tensor([prefixes[node]]).expand(3, -1)
                expected = model.decode(inputs, states, rows.attention_mask, rows.families)[:, -1]
                torch.testing.assert_close(found[:, place], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("codes", [[(3,), (5,), (4,)], [(3, 4), (3, 5), (6, 4), (6, 7, 8)], [(3,), (3, 4), (5, 5, 5)]])
def test_adapters_photos_and_families_affect_all_decoders(
    full: tuple[VIP5, Batch], codes: list[tuple[int, ...]]
) -> None:
    model, rows = full
    tree = build_tree(codes, eos_id=EOS)
    expected = exhaustive(model, rows, tree)
    everything = np.tile(np.arange(1, len(codes) + 1), (3, 1))
    np.testing.assert_allclose(score_items(model, rows, tree, everything), expected, rtol=1e-4)
    ranked = constrained_beam_search(model, rows, tree, np.ones((3, len(codes)), bool), beam=20, top_k=len(codes))
    np.testing.assert_array_equal(ranked.items, np.argsort(-expected, 1) + 1)
    np.testing.assert_allclose(ranked.scores, -np.sort(-expected, 1), rtol=1e-4)


def test_candidates_share_one_pass_over_their_prefixes(
    model: VIP5, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = [(a, b) for a in range(2, 12) for b in range(2, 12)]
    sizes: list[tuple[int, ...]] = []
    encodings: list[int] = []
    decode, embed = TreeDecoder.decode_nodes, VIP5.embed
    monkeypatch.setattr(TreeDecoder, "decode_nodes", lambda *args: sizes.append(args[1].shape) or decode(*args))
    monkeypatch.setattr(VIP5, "embed", lambda *args: encodings.append(1) or embed(*args))
    score_items(model, batch, build_tree(codes, eos_id=EOS), np.tile(np.arange(1, 101), (3, 1)))
    assert sizes == [(3, 11)]  # the start and ten first tokens, not a hundred identifiers
    assert encodings == [1]


@settings(max_examples=25, deadline=None)
@given(codes=CODES, data=st.data())
def test_results_are_existing_allowed_distinct_items(
    model: VIP5, batch: Batch, codes: list[tuple[int, ...]], data: st.DataObject
) -> None:
    tree = build_tree(codes, eos_id=EOS)
    allowed = np.array([data.draw(st.lists(st.booleans(), min_size=len(codes), max_size=len(codes))) for _ in range(3)])
    beam, top_k = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 12))
    ranked = constrained_beam_search(model, batch, tree, allowed, beam=beam, top_k=top_k)
    expected = exhaustive(model, batch, tree)
    for row in range(3):
        named = ranked.items[row][ranked.items[row] > 0]
        assert len(set(named.tolist())) == len(named)
        assert allowed[row, named - 1].all()
        np.testing.assert_allclose(ranked.scores[row][: len(named)], expected[row, named - 1], atol=1e-4)
        assert len(named) == min(top_k, int(allowed[row].sum())) or beam < len(codes)


@settings(max_examples=10, deadline=None)
@given(codes=st.sets(st.tuples(*[st.integers(2, 11)] * 2), min_size=12, max_size=100).map(sorted), data=st.data())
def test_beams_as_wide_as_the_tree_find_the_exact_top_ten(
    model: VIP5, batch: Batch, codes: list[tuple[int, ...]], data: st.DataObject
) -> None:
    tree = build_tree(codes, eos_id=EOS)
    seen = data.draw(st.sets(st.integers(0, len(codes) - 1), max_size=len(codes) - 11))
    allowed = np.ones((3, len(codes)), bool)
    allowed[:, sorted(seen)] = False
    ranked = constrained_beam_search(model, batch, tree, allowed, beam=10, top_k=10)
    expected = np.where(allowed, exhaustive(model, batch, tree), -np.inf)
    np.testing.assert_array_equal(ranked.items, np.argsort(-expected, 1)[:, :10] + 1)


def test_scores_do_not_depend_on_the_block_size(model: VIP5, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = build_tree([(3, 4), (3, 5), (6, 4), (6, 7)], eos_id=EOS)
    candidates = np.array([[4, 2, 1], [1, 3, 2], [2, 3, 4]])
    whole = score_items(model, batch, tree, candidates)
    monkeypatch.setattr("modeling.decoding.constrained_search._BLOCK", 5)
    np.testing.assert_allclose(score_items(model, batch, tree, candidates), whole, rtol=1e-6)


@settings(max_examples=25, deadline=None)
@given(codes=CODES)
def test_probabilities_of_a_catalogue_sum_to_at_most_one(
    model: VIP5, batch: Batch, codes: list[tuple[int, ...]]
) -> None:
    everything = np.tile(np.arange(1, len(codes) + 1), (3, 1))
    scores = score_items(model, batch, build_tree(codes, eos_id=EOS), everything)
    assert (np.exp(scores.astype(np.float64)).sum(1) < 1 + 1e-5).all()


def test_narrow_beams_still_fill_the_list_with_allowed_items(model: VIP5, batch: Batch) -> None:
    codes = [(a, b) for a in range(2, 8) for b in range(2, 8)]
    tree = build_tree(codes, eos_id=EOS)
    allowed = np.ones((3, 36), bool)
    allowed[0, 4:] = False
    ranked = constrained_beam_search(model, batch, tree, allowed, beam=1, top_k=5)
    assert sorted(ranked.items[0].tolist()) == [0, 1, 2, 3, 4]
    assert all(len(set(row.tolist())) == 5 for row in ranked.items)


def test_a_user_who_has_seen_everything_gets_no_items(model: VIP5, batch: Batch) -> None:
    for codes in ([(3,), (4,)], [(3, 4), (3, 5)]):
        ranked = constrained_beam_search(
            model, batch, build_tree(codes, eos_id=EOS), np.zeros((3, 2), bool), beam=4, top_k=2
        )
        assert (ranked.items == 0).all()


def test_unconstrained_beams_are_distinct_and_sorted(model: VIP5, batch: Batch) -> None:
    tokens, scores = unconstrained_beam_search(model, batch, beam=4, max_tokens=5, eos_id=EOS)
    assert tokens.shape == (3, 4, 5)
    assert (np.diff(scores, axis=1) <= 0).all()
    assert all(len({tuple(path) for path in row}) == 4 for row in tokens.tolist())


def test_strings_are_parsed_at_their_best_rank_and_counted() -> None:
    seen = np.array([True, False, False])
    texts = ["2", "x", "2", "1", " 3"]
    found, counts = parse_items(texts, [-1, -2, -3, -4, -5], {"1": 1, "2": 2, "3": 3}, seen)
    assert found == [(2, -1.0), (1, -4.0), (3, -5.0)]
    assert (counts + counts).shares() == {"invalid_share": 0.2, "repeated_share": 0.2, "seen_share": 0.2}


@pytest.mark.real
def test_greedy_and_beams_are_the_originals() -> None:
    with np.load(need(GOLDEN / "model_golden.npz")) as arrays:
        golden = dict(arrays)
    model = golden_model([str(name) for name in golden["parameter_names"]])
    ids = {name: torch.from_numpy(golden[name].astype(np.int64)) for name in ("input_ids", "target_ids")}
    batch = Batch(
        input_ids=ids["input_ids"],
        whole_word_ids=torch.from_numpy(golden["whole_word_ids"].astype(np.int64)),
        category_ids=torch.from_numpy(golden["category_ids"].astype(np.int64)),
        attention_mask=ids["input_ids"] != 0,
        image_features=torch.from_numpy(golden["image_features"]),
        image_present=torch.arange(5) < torch.from_numpy(golden["image_counts"].astype(np.int64))[:, None],
        labels=ids["target_ids"],
        families=torch.tensor([0, 1, 2]),
    )
    everything = torch.ones(len(model.t5.lm_head.weight), dtype=torch.bool)
    greedy = decode_sentences(
        model, batch, SentenceVocabulary(allowed=everything, continues=~everything, eos_id=EOS),
        beams=1, min_tokens=0, max_tokens=20, length_exponent=0.0, forbid_repeated_pairs=False,
    )  # fmt: skip
    expected = golden["greedy_sequences"][:, 1:]  # at most 19 tokens
    assert greedy[:, : expected.shape[1]].tolist() == expected.tolist()
    tokens, scores = unconstrained_beam_search(model, batch, beam=20, max_tokens=49, eos_id=EOS)
    width = golden["beam_sequences"].shape[1] - 1
    assert tokens[:, :, :width].reshape(60, -1).tolist() == golden["beam_sequences"][:, 1:].tolist()
    assert not tokens[:, :, width:].any()
    np.testing.assert_allclose(
        scores.ravel(), golden["beam_scores"], rtol=0, atol=4.5e-6
    )  # the golden README: 4e-6, one digit


def test_ranking_builds_no_autograd_graph(full: tuple[VIP5, Batch]) -> None:
    """A graph would hold every layer's states of a batch until it is ranked: some gigabytes at T5-small's size."""
    model, rows = full
    assert any(parameter.requires_grad for parameter in model.parameters())
    decoder = TreeDecoder(model, rows)
    states, _ = start(decoder, 0)
    held = [tensor for layer in decoder.layers for tensor in vars(layer).values()]
    assert not any(tensor.requires_grad for tensor in [states, *held])
