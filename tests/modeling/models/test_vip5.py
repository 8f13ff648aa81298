"""VIP5: stock T5 with everything off, the paper's parameter counts with everything on."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from features.errors import ModelError
from modeling.config.model import AdapterParams, Scratch, VisionParams
from modeling.data.prompt_dataset import Batch
from modeling.models.t5 import new_t5
from modeling.models.vip5 import VIP5, set_trainable, shifted_right
from modeling.models.visual_projector import VisualProjector, insert_visual_tokens
from modeling.runtime.random_state import seeded

TINY = Scratch(d_model=16, d_ff=32, num_heads=2, d_kv=8, num_layers=2, num_decoder_layers=2)
VOCABULARY, WIDTH = 60, 5
VISION = VisionParams(width=WIDTH, num_visual_tokens=2)


def tiny_t5(dropout: float = 0.0) -> Any:
    with seeded(3, "tiny"):
        return new_t5(TINY, vocabulary_size=VOCABULARY, dropout=dropout)


def tiny_model(adapters: AdapterParams | None = None, vision: VisionParams | None = None) -> VIP5:
    with seeded(4, "tiny"):
        return VIP5(tiny_t5(), adapters=adapters, vision=vision).eval()


def text_batch() -> Batch:
    input_ids = torch.tensor([[5, 6, 7, 8, 1], [9, 10, 1, 0, 0]])
    zeros = torch.zeros_like(input_ids)
    return Batch(
        input_ids=input_ids,
        whole_word_ids=zeros,
        category_ids=zeros,
        attention_mask=input_ids != 0,
        image_features=torch.zeros(2, 0, WIDTH),
        image_present=torch.zeros(2, 0, dtype=torch.bool),
        labels=torch.tensor([[11, 12, 1], [13, 1, -100]]),
        families=torch.tensor([0, 2]),
    )


def photo_batch() -> Batch:
    input_ids = torch.tensor([[5, 59, 59, 6, 59, 59, 1], [7, 8, 59, 59, 1, 0, 0]])
    category_ids = (input_ids == 59).long()
    return Batch(
        input_ids=input_ids,
        whole_word_ids=torch.tensor([[1, 2, 3, 4, 5, 6, 0], [1, 2, 3, 4, 0, 0, 0]]),
        category_ids=category_ids,
        attention_mask=input_ids != 0,
        image_features=torch.arange(20.0).reshape(2, 2, WIDTH) / 10,
        image_present=torch.tensor([[True, False], [True, False]]),
        labels=torch.tensor([[11, 12, 1], [13, 1, -100]]),
        families=torch.tensor([0, 1]),
    )


def test_without_adapters_and_photos_outputs_are_t5s() -> None:
    stock = tiny_t5().eval()
    model = tiny_model()
    model.whole_word.weight.data.zero_()
    model.category.weight.data.zero_()
    batch = text_batch()
    with torch.no_grad():
        expected = stock(input_ids=batch.input_ids, attention_mask=batch.attention_mask, labels=batch.labels)
        states = model.encode(batch)
        logits = model.logits(shifted_right(batch.labels), states, batch.attention_mask, batch.families)
        losses = model(batch)
    assert torch.equal(logits, expected.logits)
    assert losses.rows.tolist() == [0, 0, 0, 1, 1]
    torch.testing.assert_close(losses.reduce("tokens"), expected.loss)


def test_near_identity_adapters_change_nothing_at_the_start() -> None:
    with torch.no_grad():
        plain = tiny_model().encode(text_batch())
        adapted = tiny_model(AdapterParams(reduction=4)).encode(text_batch())
        drawn = tiny_model(AdapterParams(reduction=4, init="linear")).encode(text_batch())
    # The small embeddings are drawn before the adapters, so both models have the same.
    assert torch.equal(plain, adapted)
    assert not torch.allclose(plain, drawn)


def test_losses_do_not_depend_on_padding_or_other_rows() -> None:
    model = tiny_model(AdapterParams(reduction=4, init="linear"), VISION)
    batch = photo_batch()
    alone = Batch(
        input_ids=batch.input_ids[1:, :5],
        whole_word_ids=batch.whole_word_ids[1:, :5],
        category_ids=batch.category_ids[1:, :5],
        attention_mask=batch.attention_mask[1:, :5],
        image_features=batch.image_features[1:, :1],
        image_present=batch.image_present[1:, :1],
        labels=batch.labels[1:, :2],
        families=batch.families[1:],
    )
    with torch.no_grad():
        torch.testing.assert_close(model(batch).values[3:], model(alone).values)


def test_the_kth_placeholder_takes_the_kth_visual_token() -> None:
    embeddings = torch.zeros(2, 5, 1)
    visual_tokens = torch.tensor([[[1.0], [2.0], [3.0], [4.0]], [[5.0], [6.0], [7.0], [8.0]]])
    placeholders = torch.tensor([[0, 1, 1, 0, 1], [1, 0, 0, 0, 0]], dtype=torch.bool)
    placed = insert_visual_tokens(embeddings, visual_tokens, placeholders)
    assert placed[:, :, 0].tolist() == [[0, 1, 2, 0, 3], [5, 0, 0, 0, 0]]


def test_a_missing_photo_has_learned_vectors_or_projected_zeros() -> None:
    features, present = torch.zeros(1, 2, WIDTH), torch.tensor([[False, True]])
    learned = VisualProjector(16, VISION)
    assert learned.no_photo is not None
    tokens = learned(features, present)
    assert torch.equal(tokens[0, :2], learned.no_photo)
    assert not torch.equal(tokens[0, 2:], learned.no_photo)
    zeros = VisualProjector(16, VisionParams(width=WIDTH, num_visual_tokens=2, missing_photo="zeros"))
    tokens = zeros(features, present)
    assert zeros.no_photo is None
    assert torch.equal(tokens[0, :2], tokens[0, 2:])


def test_a_text_only_model_rejects_photos() -> None:
    with pytest.raises(ModelError, match="a batch with photos for a text-only model"):
        tiny_model().encode(photo_batch())


NORMS = [
    f"t5.{side}.block.{block}.layer.{layer}.layer_norm.weight"
    for side, layers in (("encoder", 2), ("decoder", 3))
    for block in range(2)
    for layer in range(layers)
]
PARTS = {
    *NORMS,
    "t5.encoder.final_layer_norm.weight",
    "t5.decoder.final_layer_norm.weight",
    *(
        f"visual.{name}"
        for name in ("no_photo", "inner.weight", "inner.bias", "outer.weight", "outer.bias", "norm.weight")
    ),
    *(
        f"adapters.{side}_{block}_{sublayer}.{part}"
        for side, sublayers in (
            ("encoder", ("self_attention", "feed_forward")),
            ("decoder", ("self_attention", "cross_attention", "feed_forward")),
        )
        for block in range(2)
        for sublayer in sublayers
        for part in ("down_weight", "down_bias", "up_weight", "up_bias")
    ),
}


@pytest.mark.parametrize(
    ("small_embeddings", "more"), [(False, set()), (True, {"whole_word.weight", "category.weight"})]
)
def test_exactly_these_parameters_train(small_embeddings: bool, more: set[str]) -> None:
    model = tiny_model(AdapterParams(reduction=4), VISION)
    names = set_trainable(model, tune="parts", small_embeddings=small_embeddings)
    assert set(names) == PARTS | more
    assert {name for name, p in model.named_parameters() if p.requires_grad} == PARTS | more


def test_full_tuning_trains_everything() -> None:
    model = tiny_model(AdapterParams(reduction=4), VISION)
    assert set_trainable(model, tune="full", small_embeddings=True) == [name for name, _ in model.named_parameters()]


@pytest.mark.parametrize(
    ("num_visual_tokens", "width", "reduction", "routing", "trained", "total"),
    [
        (1, 512, 8, "single", 2_263_168, 63_271_552),
        (2, 512, 8, "single", 2_788_736, 63_797_120),
        (3, 512, 8, "single", 3_576_448, 64_584_832),
        (2, 768, 8, "single", 2_919_808, None),
        (2, 512, 2, "single", 8_692_736, None),
        (2, 512, 8, "per_family", 6_755_456, 67_763_840),
    ],
)
def test_parameter_counts_are_the_papers(
    num_visual_tokens: int, width: int, reduction: int, routing: Any, trained: int, total: int | None
) -> None:
    vision = VisionParams(width=width, num_visual_tokens=num_visual_tokens, missing_photo="zeros")
    with torch.device("meta"):
        t5 = new_t5(Scratch(), vocabulary_size=32100, dropout=0.1)
        model = VIP5(t5, adapters=AdapterParams(reduction=reduction, init="linear", routing=routing), vision=vision)
    set_trainable(model, tune="parts", small_embeddings=False)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == trained
    assert total is None or sum(p.numel() for p in model.parameters()) == total


def test_standardised_photos_ignore_scale_and_mean() -> None:
    features = torch.randn(20, WIDTH)
    present = torch.ones(20, 1, dtype=torch.bool)
    with seeded(1, "projector"):
        one = VisualProjector(16, VisionParams(width=WIDTH, num_visual_tokens=2, standardise=True))
    with seeded(1, "projector"):
        two = VisualProjector(16, VisionParams(width=WIDTH, num_visual_tokens=2, standardise=True))
    one.fit_standardisation(features)
    moved = features / 50 + 7
    two.fit_standardisation(moved)
    torch.testing.assert_close(one(features[:, None], present), two(moved[:, None], present), atol=1e-3, rtol=0)
    assert one.mean.tolist() == pytest.approx(features.mean(0).tolist())


def test_the_loss_of_a_sentence_is_over_words_only() -> None:
    """An identifier's logit does not change the loss of an explanation, and does change that of an item."""
    identifiers = np.array([20, 21])
    with seeded(1, "words only"):
        model = VIP5(tiny_t5(), identifiers=identifiers).eval()
    losses = []
    for boost in (0.0, 5.0):
        with torch.no_grad():
            model.t5.shared.weight[20] += boost
        family_losses = []
        for family in (0, 2):
            batch = replace(text_batch(), families=torch.full((2,), family))
            family_losses.append(model(batch).values.detach())
        losses.append(family_losses)
    assert not torch.allclose(losses[0][0], losses[1][0])
    assert torch.allclose(losses[0][1], losses[1][1])


@pytest.mark.parametrize("scale", [0.1, 1.0])
def test_the_embedding_scale_keeps_the_logits(scale: float) -> None:
    """Scaled embeddings and the reciprocal norm give the logits of T5's initialisation."""
    made = []
    for one in (1.0, scale):
        with seeded(2, "scale"):
            made.append(new_t5(replace(TINY, embedding_scale=one), vocabulary_size=20, dropout=0.0).eval())
    hidden = torch.randn(3, TINY.d_model)
    with torch.no_grad():
        first, second = (t5.lm_head(t5.decoder.final_layer_norm(hidden)) for t5 in made)
    assert torch.allclose(first, second, atol=1e-5)


def test_full_tuning_after_parts_trains_the_whole_table() -> None:
    """The gradient mask of "parts" does not outlive it."""
    with seeded(1, "masks"):
        model = VIP5(tiny_t5(), identifiers=np.array([20, 21]))
    rows = []
    for tune in ("parts", "full"):
        set_trainable(model, tune=tune, small_embeddings=True, new_tokens=True)  # type: ignore[arg-type]
        model.zero_grad()
        model(text_batch()).reduce("tokens").backward()
        rows.append(model.t5.shared.weight.grad.any(1).nonzero()[:, 0].tolist())
    assert set(rows[0]) <= {20, 21}
    assert len(rows[1]) > 2
