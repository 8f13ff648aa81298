"""Fused modules compute what the library's modules compute, and dropout has the given probability."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from modeling.config.model import AdapterParams, Scratch, VisionParams
from modeling.data.prompt_dataset import Batch
from modeling.kernels.autograd_functions import DropoutRng, threshold_of
from modeling.kernels.fused_modules import (
    ATTENTION,
    FusedCrossAttention,
    FusedDropout,
    FusedReluDropout,
    FusedRMSNorm,
    fused_attention,
    fused_bias,
    use_fused_modules,
)
from modeling.models.t5 import new_t5
from modeling.models.vip5 import VIP5, set_trainable
from modeling.runtime.random_state import seeded

WIDTH = 5


def model(tune: Any, dropout: float = 0.0, **size: Any) -> VIP5:
    scratch = Scratch(
        **({"d_model": 64, "d_ff": 48, "num_heads": 4, "d_kv": 16} | size), num_layers=2, num_decoder_layers=2
    )
    with seeded(3, "quick"):
        t5 = new_t5(scratch, vocabulary_size=60, dropout=dropout)
        made = VIP5(
            t5,
            adapters=AdapterParams(reduction=4, init="linear", routing="per_family"),
            vision=VisionParams(width=WIDTH, num_visual_tokens=1),
        )
    set_trainable(made, tune=tune, small_embeddings=True)
    return made.train()


def batch(target_length: int = 3) -> Batch:
    generator = torch.Generator().manual_seed(1)
    input_ids = torch.randint(3, 59, (3, 12), generator=generator)
    input_ids[:, 2] = 59
    for row, length in enumerate((12, 7, 9)):
        input_ids[row, length:] = 0
    labels = torch.randint(3, 59, (3, target_length), generator=generator)
    labels[1, 2:] = -100
    return Batch(
        input_ids=input_ids,
        whole_word_ids=(input_ids != 0).cumsum(1),
        category_ids=(input_ids == 59).long(),
        attention_mask=input_ids != 0,
        image_features=torch.randn(3, 1, WIDTH, generator=generator),
        image_present=torch.tensor([[True], [False], [True]]),
        labels=labels,
        families=torch.tensor([0, 1, 2]),
    )


@pytest.mark.parametrize("tune", ["parts", "full"])
@pytest.mark.parametrize("target_length", [2, 11])  # few queries for the cross-attention, and many
@pytest.mark.parametrize("size", [{}, {"d_kv": 12}, {"feed_forward_proj": "gated-gelu"}])
def test_losses_and_gradients_are_the_librarys(tune: Any, target_length: int, size: dict[str, Any]) -> None:
    stock, fused = model(tune, **size), model(tune, **size)
    use_fused_modules(fused.t5)
    assert [name for name, _ in stock.named_parameters()] == [name for name, _ in fused.named_parameters()]
    assert stock.state_dict().keys() == fused.state_dict().keys()
    for each in (stock, fused):
        each(batch(target_length)).reduce("tokens").backward()
    torch.testing.assert_close(fused(batch()).values, stock(batch()).values, atol=1e-5, rtol=0)
    gradients = {name: p.grad for name, p in fused.named_parameters()}
    for name, parameter in stock.named_parameters():
        if parameter.grad is None:
            assert gradients[name] is None, name
        else:
            torch.testing.assert_close(gradients[name], parameter.grad, atol=2e-5, rtol=1e-4, msg=name)


def test_generation_with_a_cache_is_the_librarys() -> None:
    stock, fused = model("parts").eval(), model("parts").eval()
    use_fused_modules(fused.t5)
    found = []
    with torch.no_grad():
        for each in (stock, fused):
            states, cache = each.encode(batch()), None
            for token in (0, 7, 9):
                output = each.t5(
                    encoder_outputs=(states,), attention_mask=batch().attention_mask,
                    decoder_input_ids=torch.full((3, 1), token), past_key_values=cache, use_cache=True,
                )  # fmt: skip
                cache = output.past_key_values
            found.append(output.logits)
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=0)


def test_attention_in_blocks_of_heads_is_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    fused = model("full", dropout=0.3)
    dropout_rng = use_fused_modules(fused.t5)
    found = []
    for weights in (1, 2**40):
        monkeypatch.setattr("modeling.kernels.autograd_functions.CACHED_WEIGHTS", weights)
        for module in fused.modules():
            if isinstance(module, FusedDropout):
                module.share = 0.0  # the draws of attention alone depend on the order
        for block in (*fused.t5.encoder.block, *fused.t5.decoder.block):
            block.layer[0].SelfAttention.dropout = 0.0
        dropout_rng.seed(1)
        fused.zero_grad()
        fused(batch()).reduce("tokens").backward()
        bias = fused.t5.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight
        found.append(bias.grad.clone())
    torch.testing.assert_close(found[0], found[1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("share", [0.05, 0.1, 0.5, 0.9])
def test_dropout_has_its_probability_and_keeps_the_mean(share: float, dtype: torch.dtype) -> None:
    dropout = FusedDropout(share, DropoutRng(4))
    values = torch.ones(400, 501, requires_grad=True, dtype=dtype)
    kept = dropout(values)
    assert (kept == 0).float().mean().item() == pytest.approx(share, abs=0.005)
    assert kept.float().mean().item() == pytest.approx(1, abs=0.03)
    assert sorted(kept.unique().tolist()) == pytest.approx([0, 1 / (1 - share)], rel=2**-8)
    kept.sum().backward()
    assert torch.equal(values.grad, kept)  # the same ones on the way back, drawn again
    assert not torch.equal(dropout(values), kept)
    assert torch.equal(dropout.eval()(values), values)


def test_the_same_seed_gives_the_same_dropout() -> None:
    dropout_rng = DropoutRng()
    dropout, relu = FusedDropout(0.5, dropout_rng), FusedReluDropout(0.5, dropout_rng)
    values = torch.randn(9, 7)
    found = []
    for seed in (1, 1, 2):
        dropout_rng.seed(seed)
        found.append(torch.cat([dropout(values), relu(values)]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_thresholds_split_the_bit_patterns_exactly(dtype: torch.dtype) -> None:
    patterns = torch.arange(-(2**15), 2**15, dtype=torch.int32) * 2**16  # every 65,536th pattern, or all
    numbers = patterns.view(torch.float32)
    for share in (0.01, 0.1, 0.45, 0.6):
        assert (numbers <= threshold_of(share, dtype)).double().mean().item() == pytest.approx(
            share, abs=2**-15
        )  # one pattern a sign


def test_dropout_after_relu_passes_gradients_where_values_passed() -> None:
    values = torch.randn(300, 50, requires_grad=True)
    output = FusedReluDropout(0.25, DropoutRng(2))(values)
    output.sum().backward()
    assert ((output > 0).float().mean() / (values > 0).float().mean()).item() == pytest.approx(0.75, abs=0.02)
    assert torch.equal(values.grad, (output > 0).float() / 0.75)


def test_attention_dropout_is_that_of_its_weights() -> None:
    """With keys of zeros and values of one, each output is the share of kept weights."""
    module = torch.nn.Module()
    module.dropout_rng = DropoutRng(3)
    query = torch.zeros(2, 2, 50, 4)
    value = torch.ones(2, 2, 1000, 4, requires_grad=True)
    output, _ = fused_attention(module, query, torch.zeros(2, 2, 1000, 4), value, None, dropout=0.2, scaling=1.0)
    kept = output[..., 0] * 0.8
    assert kept.mean().item() == pytest.approx(0.8, abs=0.003)
    assert kept.std().item() == pytest.approx((0.2 * 0.8 / 1000) ** 0.5, rel=0.15)
    output.sum().backward()
    assert value.grad.mean().item() == pytest.approx(50 / 1000, rel=0.01)
    with pytest.raises(ValueError, match=r"attention with scaling 0\.5"):
        fused_attention(module, query, query, query, None, scaling=0.5)


@pytest.mark.parametrize("target_length", [2, 11])
def test_bfloat16_is_as_near_to_float32_as_the_librarys(target_length: int) -> None:
    found = []
    for dtype, is_fused in ((torch.float32, False), (torch.bfloat16, False), (torch.bfloat16, True)):
        made = model("full")
        if is_fused:
            use_fused_modules(made.t5)
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            losses = made(batch(target_length))
        losses.reduce("tokens").backward()
        gradients = [p.grad.flatten() for p in made.parameters() if p.grad is not None]
        found.append(torch.cat([losses.values.detach(), *gradients]))
    exact, library, fused = found
    assert (library - exact).norm() / exact.norm() < 0.03
    assert (fused - exact).norm() / exact.norm() < 0.03


@pytest.mark.parametrize("columns", [8, 11])
def test_biases_are_aligned_and_not_repeated(columns: int) -> None:
    """Fused attention on a GPU wants the last stride 1 and the others multiples of eight."""
    position = torch.randn(5, columns, 4).permute(2, 0, 1)[None]  # (1, H, Q, K) as T5 makes it
    mask, query = torch.randn(3, 1, 5, columns), torch.zeros(3, 4, 5, 2)
    for terms in ([position], [position, mask], [mask]):
        bias = fused_bias(terms, query, columns)
        assert bias is not None
        assert bias.shape == (3, 4, 5, columns)
        assert bias.stride(3) == 1
        assert [stride % 8 for stride in bias.stride()[:3]] == [0, 0, 0]
        torch.testing.assert_close(bias, sum(terms[1:], terms[0]).expand_as(bias))
    alone = fused_bias([position], query, columns)
    assert alone is not None
    assert alone.stride(0) == 0
    assert fused_bias([], query, columns) is None


def test_a_batch_without_padding_needs_no_mask() -> None:
    made, whole = model("parts"), batch()
    full = replace(whole, attention_mask=torch.ones_like(whole.attention_mask))
    bare = replace(full, is_padded=False)
    assert bare.mask is None
    torch.testing.assert_close(made(bare).values, made(full).values, atol=0, rtol=0)
    use_fused_modules(made.t5)
    torch.testing.assert_close(made(bare).values, made(full).values, atol=1e-6, rtol=0)


def test_other_types_use_torchs_functions() -> None:
    kept = FusedDropout(0.5, DropoutRng())(torch.ones(200, 200, dtype=torch.float64))
    assert (kept == 0).double().mean().item() == pytest.approx(0.5, abs=0.02)


def test_every_leaf_is_replaced_and_parameter_names_stay() -> None:
    fused = model("parts", dropout=0.1)
    use_fused_modules(fused.t5)
    kinds = [type(module) for module in fused.t5.modules()]
    assert kinds.count(FusedRMSNorm) == 2 * 2 + 2 * 3 + 2
    assert kinds.count(FusedReluDropout) == 4
    assert kinds.count(FusedCrossAttention) == 2
    assert torch.nn.Dropout not in kinds
    assert {kind.__name__ for kind in kinds} & {"T5LayerNorm"} == set()
    assert ATTENTION not in fused.t5.config.to_json_string(use_diff=False)


def test_dropout_of_the_whole_model_follows_the_seed() -> None:
    fused = model("parts", dropout=0.2)
    dropout_rng = use_fused_modules(fused.t5)
    found = []
    for seed in (1, 1, 2):
        dropout_rng.seed(seed)
        found.append(fused(replace(batch())).values)
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])
