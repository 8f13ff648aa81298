"""Adapters: every sub-layer has one, and a row's own family chooses its route."""

import torch

from modeling.adapters import Adapter, Route, attach_adapters, sublayers
from modeling.backbone import new_t5
from modeling.settings import AdapterParams, Scratch

TINY = Scratch(d_model=8, d_ff=16, num_heads=2, d_kv=4, num_layers=1, num_decoder_layers=1)


def test_every_sublayer_has_an_adapter_and_the_backbones_names_stay() -> None:
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


def test_a_near_identity_adapter_starts_as_the_identity_and_can_leave_it() -> None:
    adapter = Adapter(4, 2, num_routes=3, near_identity=True)
    states = torch.randn(2, 3, 4)
    assert torch.equal(adapter(states, torch.tensor([0, 2])), states)
    adapter(states, torch.tensor([0, 2])).pow(2).sum().backward()
    assert adapter.up_weight.grad is not None
    assert adapter.up_weight.grad.flatten(1).norm(dim=1).gt(0).tolist() == [True, False, True]


def test_rows_of_one_batch_take_their_own_routes() -> None:
    adapter = Adapter(4, 2, num_routes=3, near_identity=False)
    states = torch.randn(5, 3, 4)
    families = torch.tensor([2, 0, 1, 2, 0])
    mixed = adapter(states, families)
    for row, family in enumerate(families.tolist()):
        alone = adapter(states[row : row + 1], torch.tensor([family]))
        torch.testing.assert_close(mixed[row : row + 1], alone)
    assert not torch.allclose(adapter(states[:1], torch.tensor([0])), adapter(states[:1], torch.tensor([1])))


def test_per_family_adapters_with_equal_weights_are_the_single_one() -> None:
    single = Adapter(4, 2, num_routes=1, near_identity=False)
    routed = Adapter(4, 2, num_routes=3, near_identity=False)
    with torch.no_grad():
        for name, parameter in routed.named_parameters():
            parameter.copy_(dict(single.named_parameters())[name].expand_as(parameter))
    states, families = torch.randn(4, 2, 4), torch.tensor([0, 1, 2, 0])
    torch.testing.assert_close(routed(states, families), single(states, families))
