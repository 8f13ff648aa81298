"""Adapters: every sub-layer has one, selected for each row by its family."""

from typing import Literal

import pytest
import torch

from modeling.config.model import AdapterParams, Scratch
from modeling.data.prompt_dataset import Batch
from modeling.kernels.fused_modules import use_fused_modules
from modeling.models.adapters import Adapter, Route, attach_adapters, projections, sublayers
from modeling.models.t5 import new_t5
from modeling.models.vip5 import VIP5, set_trainable
from modeling.runtime.random_state import seeded

TINY = Scratch(d_model=8, d_ff=16, num_heads=2, d_kv=4, num_layers=1, num_decoder_layers=1)


def test_every_sublayer_has_an_adapter_and_names_stay() -> None:
    t5 = new_t5(TINY, vocabulary_size=20, dropout=0.0)
    names = set(t5.state_dict())
    adapters = attach_adapters(t5, AdapterParams(reduction=2), Route())
    assert list(adapters) == [
        "encoder_0_self_attention",
        "encoder_0_feed_forward",
        "decoder_0_self_attention",
        "decoder_0_cross_attention",
        "decoder_0_feed_forward",
    ]
    assert set(t5.state_dict()) == names
    without = [name for name, _ in sublayers(t5, cross_attention=False)]
    assert without == [name for name in adapters if "cross" not in name]


def test_adapter_is_the_formula() -> None:
    adapter = Adapter(4, 2, num_routes=1, near_identity=False)
    states = torch.randn(2, 3, 4)
    down, up = adapter.down_weight[0], adapter.up_weight[0]
    inner = torch.nn.functional.gelu(states @ down.T + adapter.down_bias[0], approximate="tanh")
    expected = states + inner @ up.T + adapter.up_bias[0]
    torch.testing.assert_close(adapter(states, torch.tensor([0, 2])), expected)


def test_a_near_identity_adapter_starts_as_identity_and_learns() -> None:
    adapter = Adapter(4, 2, num_routes=3, near_identity=True)
    states = torch.randn(2, 3, 4)
    assert torch.equal(adapter(states, torch.tensor([0, 2])), states)
    adapter(states, torch.tensor([0, 2])).pow(2).sum().backward()
    assert adapter.up_weight.grad is not None
    assert adapter.up_weight.grad.flatten(1).norm(dim=1).gt(0).tolist() == [True, False, True]


def test_rows_of_one_batch_use_their_familys_adapter() -> None:
    adapter = Adapter(4, 2, num_routes=3, near_identity=False)
    states = torch.randn(5, 3, 4)
    families = torch.tensor([2, 0, 1, 2, 0])
    mixed = adapter(states, families)
    for row, family in enumerate(families.tolist()):
        alone = adapter(states[row : row + 1], torch.tensor([family]))
        torch.testing.assert_close(mixed[row : row + 1], alone)
    assert not torch.allclose(adapter(states[:1], torch.tensor([0])), adapter(states[:1], torch.tensor([1])))


def test_per_family_adapters_with_equal_weights_act_as_one() -> None:
    single = Adapter(4, 2, num_routes=1, near_identity=False)
    routed = Adapter(4, 2, num_routes=3, near_identity=False)
    with torch.no_grad():
        for name, parameter in routed.named_parameters():
            parameter.copy_(dict(single.named_parameters())[name].expand_as(parameter))
    states, families = torch.randn(4, 2, 4), torch.tensor([0, 1, 2, 0])
    torch.testing.assert_close(routed(states, families), single(states, families))


def lora(routing: Literal["single", "per_family"] = "per_family") -> tuple[VIP5, VIP5]:
    """A stock model, and the same with low-rank updates."""
    made = []
    for params in (None, AdapterParams(kind="lora", reduction=4, routing=routing, lora_scale=0.5)):
        with seeded(1, "lora"):
            t5 = new_t5(TINY, vocabulary_size=60, dropout=0.0)
            made.append(VIP5(t5, adapters=params).eval())
    return made[0], made[1]


def text_batch() -> Batch:
    input_ids = torch.tensor([[5, 6, 7, 1], [9, 10, 1, 0]])
    return Batch(
        input_ids=input_ids,
        whole_word_ids=torch.zeros_like(input_ids),
        category_ids=torch.zeros_like(input_ids),
        attention_mask=input_ids != 0,
        image_features=torch.zeros(2, 0, 1),
        image_present=torch.zeros(2, 0, dtype=torch.bool),
        labels=torch.tensor([[11, 1], [13, 1]]),
        families=torch.tensor([0, 2]),
    )


def test_lora_starts_as_the_backbone_and_updates_projections() -> None:
    stock, tuned = lora()
    assert list(tuned.adapters or []) == [
        f"{place}_{projection}"
        for place in ("encoder_0_self_attention", "decoder_0_self_attention", "decoder_0_cross_attention")
        for projection in "qv"
    ]
    assert torch.equal(tuned(text_batch()).values, stock(text_batch()).values)
    assert tuned.adapters is not None
    with torch.no_grad():
        for update in tuned.adapters.values():
            update.up_weight.normal_()
    for row, family in ((0, 0), (1, 2)):  # equals weights that include the update of the row's family
        merged = lora()[0]
        with torch.no_grad():
            for (name, linear), (_, theirs) in zip(projections(merged.t5), projections(tuned.t5), strict=True):
                update = tuned.adapters[name]
                linear.weight.copy_(theirs.weight + 0.5 * update.up_weight[family] @ update.down_weight[family])
            expected = merged(text_batch()).values[2 * row : 2 * row + 2]
            torch.testing.assert_close(tuned(text_batch()).values[2 * row : 2 * row + 2], expected)
    use_fused_modules(tuned.t5)
    torch.testing.assert_close(tuned(text_batch()).values[2:], expected)


def test_lora_trains_its_updates_and_no_projection() -> None:
    _, tuned = lora("single")
    names = set_trainable(tuned, tune="parts", small_embeddings=False)
    tuned(text_batch()).reduce("tokens").backward()
    trained = {name for name, p in tuned.named_parameters() if p.grad is not None}
    assert {name for name in names if name.startswith("adapters.")} <= trained
    assert not any(name.endswith((".q.weight", ".v.weight")) for name in trained)
    with pytest.raises(ValueError, match="lora_scale must be above 0"):
        AdapterParams(lora_scale=0.0)
