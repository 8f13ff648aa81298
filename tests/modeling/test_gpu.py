"""A GPU computes the same results as the CPU."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from features.runtime.seeds import rng
from modeling.data.prompt_dataset import Batch, PhotoTable
from modeling.data.seen_item_mask import MaskedTokens
from modeling.decoding.constrained_search import constrained_beam_search, score_items
from modeling.decoding.prefix_tree import build_tree
from modeling.kernels.fused_modules import use_fused_modules
from modeling.models.distill_item_embeddings import distill_item_embeddings
from modeling.models.targets import SoftTargets
from modeling.runtime.devices import autocast
from modeling.training.distillation import make_ridge
from tests.modeling.kernels.test_fused_modules import batch, model
from tests.modeling.training.test_distillation import ALWAYS, TEXTS, TRAIN

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")


def test_photos_on_another_device_have_the_cpus_shapes() -> None:
    photos = PhotoTable(rng(1, "photos").standard_normal((7, 3)).astype(np.float32), np.arange(7) > 0)
    ids = np.array([[1, 2], [0, 6]], np.int32)
    here, there = photos.of(ids, torch.device("cpu")), photos.of(ids, torch.device("meta"))
    assert [(x.shape, x.dtype) for x in here] == [(x.shape, x.dtype) for x in there]
    assert here[0][1, 1].tolist() == photos.features[6].tolist()
    assert here[1].tolist() == [[True, True], [False, True]]


def gradients(place: str, dtype: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    made = model("full").to(place)
    use_fused_modules(made.t5)
    with autocast(torch.device(place), dtype):
        losses = made(batch().to(place))
    losses.reduce("tokens").backward()
    found = {name: p.grad.cpu() for name, p in made.named_parameters() if p.grad is not None}
    return losses.values.detach().cpu(), found


@needs_gpu
def test_losses_and_gradients_are_the_cpus() -> None:
    (losses, expected), (there, found) = gradients("cpu", "float32"), gradients("cuda", "float32")
    torch.testing.assert_close(there, losses, atol=1e-5, rtol=1e-5)
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=2e-5, rtol=1e-3, msg=name)


@needs_gpu
def test_bfloat16_on_a_gpu_is_close() -> None:
    (losses, expected), (there, found) = gradients("cpu", "float32"), gradients("cuda", "bfloat16")
    torch.testing.assert_close(there, losses, atol=0.05, rtol=0.02)
    whole = torch.cat([g.flatten() for g in expected.values()])
    other = torch.cat([found[name].flatten() for name in expected])
    assert float((whole - other).norm() / whole.norm()) < 0.03


def distillation_losses(place: str) -> torch.Tensor:
    made, device = model("full").to(place), torch.device(place)
    use_fused_modules(made.t5)
    probabilities = torch.tensor([[0.5, 0.25, 0.25], [0.0, 1.0, 0.0]])
    soft = SoftTargets(
        torch.tensor([0, 2]).to(device), probabilities.to(device), torch.tensor([3, 4, 5]).to(device), 0.7
    )
    masked_tokens = MaskedTokens(torch.tensor([0, 0, 1]).to(device), torch.tensor([6, 7, 8]).to(device))
    values: torch.Tensor = made(batch().to(device), soft, masked_tokens).values
    return values.detach().cpu()


@needs_gpu
def test_a_distillation_step_is_the_cpus() -> None:
    torch.testing.assert_close(distillation_losses("cuda"), distillation_losses("cpu"), atol=1e-5, rtol=1e-5)


@needs_gpu
def test_a_teacher_and_distilled_embeddings_are_the_cpus() -> None:
    here, there = (make_ridge(ALWAYS, TEXTS, TRAIN, None, torch.device(place)) for place in ("cpu", "cuda"))
    assert here is not None
    assert there is not None
    torch.testing.assert_close(there.weights.cpu(), here.weights, atol=1e-5, rtol=1e-4)
    rows = np.arange(1, 6)
    torch.testing.assert_close(
        there.probabilities(TRAIN, rows).cpu(), here.probabilities(TRAIN, rows), atol=1e-5, rtol=1e-3
    )
    start = torch.randn(len(TEXTS), 8, generator=torch.Generator().manual_seed(2))
    fitted = [distill_item_embeddings(start, TRAIN, ridge, steps=30, seed=1) for ridge in (here, there)]
    torch.testing.assert_close(fitted[1], fitted[0], atol=1e-2, rtol=1e-2)


@needs_gpu
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rankings_and_scores_are_the_cpus(dtype: str) -> None:
    codes = [(a, b) for a in range(3, 13) for b in range(13, 23)]
    tree, allowed = build_tree(codes, eos_id=1), rng(2, "allowed").random((3, 100)) < 0.8
    listed = np.arange(1, 61).reshape(3, 20)
    made, rows = model("full").eval(), batch()
    expected = constrained_beam_search(made, rows, tree, allowed, beam=100, top_k=20)
    scores = score_items(made, rows, tree, listed)
    made = made.to("cuda")
    there: Batch = replace(rows).to("cuda")
    with autocast(torch.device("cuda"), dtype):
        found = constrained_beam_search(made, there, tree, allowed, beam=100, top_k=20)
        others = score_items(made, there, tree, listed)
    near = 2e-4 if dtype == "float32" else 0.15
    np.testing.assert_allclose(found.scores, expected.scores, atol=near)
    np.testing.assert_allclose(others, scores, atol=near)
    if dtype == "float32":
        np.testing.assert_array_equal(found.items, expected.items)
    for row in range(3):
        assert allowed[row, found.items[row] - 1].all()
        assert len(set(found.items[row].tolist())) == 20
