"""The training loop stops at its limits, keeps the best weights and follows its formulas."""

from typing import Any, cast

import jaxtyping
import pytest
import torch

from features.errors import ParamsError, TrainingError
from features.runtime.stage import Context
from modeling import pretrain
from modeling.config.model import AdapterParams
from modeling.config.training import (
    Batching,
    Compute,
    FamilyWeights,
    LoopParams,
    Objective,
    Optimizer,
    Schedule,
    Validation,
)
from modeling.data.prompt_dataset import PromptDataset
from modeling.models.checkpoints import open_model
from modeling.models.token_loss import TokenLosses
from modeling.models.vip5 import VIP5, set_trainable
from modeling.runtime.devices import device_of
from modeling.training.loop import fit
from modeling.training.optimizer import TransformersAdamW, decays, rate_share
from modeling.training.run_files import prompt_tables
from modeling.training.validation import Validator, fixed_rows
from tests.modeling.world import changed, write_world

LOOP = LoopParams(
    schedule=Schedule(epochs=8),
    batching=Batching(batch_size=16),
    optimizer=Optimizer(learning_rate=0.02),
    objective=Objective(dropout=0.0),
    validation=Validation(every_steps=20, checkpoint_metric="hr@10"),
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A world with a trained backbone."""
    made = write_world(tmp_path_factory.mktemp("world"))
    pretrain.run(pretrain.Params(**vars(LOOP)), made)
    return made


def parts(place: Context, loop: LoopParams) -> tuple[PromptDataset, Validator]:
    _, tokens = open_model(place)
    corpus = PromptDataset.load(prompt_tables(place, "train"), tokens, None)
    return corpus, Validator(
        corpus, fixed_rows(corpus, ["A-3", "B-5", "C-3"], loop.validation.examples_per_family, seed=5)
    )


@pytest.mark.parametrize(
    ("loop", "stopped", "steps"),
    [
        (LoopParams(schedule=Schedule(epochs=3, max_steps=4), batching=Batching(batch_size=45)), "max_steps", 4),
        (LoopParams(schedule=Schedule(epochs=3, max_seconds=1e-6), batching=Batching(batch_size=45)), "max_seconds", 2),
        (LoopParams(schedule=Schedule(epochs=3), batching=Batching(batch_size=45)), "finished", 6),
    ],
)
def test_training_stops_at_each_limit(place: Context, loop: LoopParams, stopped: str, steps: int) -> None:
    model, _ = open_model(place)
    corpus, measure = parts(place, loop)
    history = fit(model, corpus, measure, loop, seed=1, stage="pretrain")
    assert history.stopped == stopped
    assert history.steps <= steps
    assert history.best["valid_loss"] > 0
    assert history.best_step <= history.steps


def test_masks_and_span_noise_reach_the_steps(place: Context) -> None:
    plain = LoopParams(
        schedule=Schedule(epochs=1),
        batching=Batching(batch_size=90),
        optimizer=Optimizer(learning_rate=1e-9),
        objective=Objective(dropout=0.0),
        validation=Validation(examples_per_family=0),
    )
    seen = {}
    for name, objective in (
        ("plain", {}),
        ("left out", {"mask_seen_items": True}),
        ("noise", {"span_noise_rate": 0.8}),
    ):
        model, tokens = open_model(place)
        corpus = PromptDataset.load(prompt_tables(place, "train"), tokens, None)
        seen[name] = fit(model, corpus, None, changed(plain, objective=objective), seed=1, stage="pretrain")
    loss = {name: history.rows[-1]["loss_sequential"] for name, history in seen.items()}
    assert (
        loss["left out"] < loss["plain"] < loss["noise"]
    )  # the mask removes wrong answers; the noise removes known text
    assert seen["left out"].source_tokens == seen["plain"].source_tokens > seen["noise"].source_tokens


class FakeValidator:
    """Returns the given losses in turn and records the weights it saw."""

    def __init__(self, *losses: float) -> None:
        self.losses, self.seen = iter(losses), list[torch.Tensor]()

    def __call__(self, model: VIP5) -> dict[str, float]:
        self.seen.append(model.t5.shared.weight.detach().clone())
        return {"valid_loss": next(self.losses)}


@pytest.mark.parametrize(
    ("checkpoint_metric", "patience", "best_step", "steps", "stopped"),
    [("loss", None, 2, 4, "finished"), ("last", None, 4, 4, "finished"), ("loss", 1, 2, 3, "patience")],
)
def test_the_best_weights_are_restored(
    place: Context, checkpoint_metric: Any, patience: int | None, best_step: int, steps: int, stopped: str
) -> None:
    model, _ = open_model(place)
    loop = LoopParams(
        schedule=Schedule(epochs=2),
        batching=Batching(batch_size=45),
        validation=Validation(every_steps=1, checkpoint_metric=checkpoint_metric, patience=patience),
    )
    fake = FakeValidator(3.0, 1.0, 2.0, 1.5)
    history = fit(model, parts(place, loop)[0], cast("Validator", fake), loop, seed=1, stage="pretrain")
    assert (history.best_step, history.steps, history.stopped) == (best_step, steps, stopped)
    assert torch.equal(model.t5.shared.weight, fake.seen[best_step - 1])


def test_hr_without_one_token_identifiers_is_rejected(place: Context) -> None:
    model, _ = open_model(place)
    loop = LoopParams(
        schedule=Schedule(epochs=1), batching=Batching(batch_size=45), validation=Validation(checkpoint_metric="hr@10")
    )
    with pytest.raises(
        ParamsError, match=r"pretrain\.validation\.checkpoint_metric: hr@10 with identifiers of several tokens"
    ):
        fit(model, parts(place, loop)[0], cast("Validator", FakeValidator(1.0)), loop, seed=1, stage="pretrain")


def test_a_non_finite_loss_is_a_training_error(place: Context) -> None:
    model, _ = open_model(place)
    model.t5.shared.weight.data.fill_(float("inf"))
    loop = LoopParams(schedule=Schedule(epochs=1), batching=Batching(batch_size=45))
    with pytest.raises(
        TrainingError, match=r"non-finite loss by step 2 of pretrain; .* lower pretrain\.optimizer\.learning_rate"
    ):
        fit(model, parts(place, loop)[0], None, loop, seed=1, stage="pretrain")


def test_only_one_token_targets_of_next_item_prompts_are_ranked(place: Context) -> None:
    corpus, measure = parts(place, LOOP)
    rows = fixed_rows(corpus, ["A-3", "B-5", "C-3"], 7, seed=5)
    assert len(rows) == 21
    assert set(corpus.next_item_rows(rows).tolist()) == {int(row) for row in rows if row < 30}
    assert len(fixed_rows(corpus, ["B-5"], 100, seed=5)) == 30
    assert measure.num_rows == 90


def test_loss_reductions_are_the_formulas() -> None:
    losses = TokenLosses(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 1]), torch.tensor([2, 0]))
    assert losses.reduce("tokens").item() == 3.0
    assert losses.reduce("examples").item() == 3.5
    assert losses.reduce("paper").item() == 3.0
    sums, counts = losses.by_family()
    assert (sums.tolist(), counts.tolist()) == ([5.0, 0.0, 4.0], [1.0, 0.0, 2.0])


def test_families_have_their_weights() -> None:
    losses = TokenLosses(torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 1]), torch.tensor([2, 0]))
    weights = [3.0, 1.0, 0.5]  # 3 for the sequential row, 0.5 for the explanation
    assert losses.reduce("tokens", weights).item() == pytest.approx((0.5 * 4 + 3 * 5) / (0.5 * 2 + 3))
    assert losses.reduce("examples", weights).item() == pytest.approx((0.5 * 2 + 3 * 5) / 3.5)
    assert losses.reduce("paper", weights).item() == pytest.approx((0.5 * 1 + 3 * 5) / 3.5)
    with pytest.raises(ValueError, match="family_weights must be above 0"):
        FamilyWeights(direct=0.0)


@pytest.mark.parametrize("loss_reduction", ["tokens", "examples", "paper"])
def test_microbatches_give_the_step_of_the_whole_batch(place: Context, loss_reduction: Any) -> None:
    found = []
    for batching, tokens in (("length_bucketed", None), ("shuffled", None), ("shuffled", 60)):
        model, _ = open_model(place)
        set_trainable(model, tune="full", small_embeddings=True)
        loop = LoopParams(
            schedule=Schedule(max_steps=1),
            batching=Batching(batch_size=90, order=cast("Any", batching), max_tokens_per_microbatch=tokens),
            objective=Objective(
                loss_reduction=loss_reduction, dropout=0.0, family_weights=FamilyWeights(direct=2.0, explanation=0.5)
            ),
        )
        corpus, _ = parts(place, loop)
        history = fit(model, corpus, None, loop, seed=1, stage="pretrain")
        assert (history.steps, history.examples) == (1, 90)
        found.append((model.t5.shared.weight.detach(), history.rows[-1]["loss"], history.padding_share))
    for weight, loss, padding in found[1:]:
        torch.testing.assert_close(weight, found[0][0], atol=1e-5, rtol=0)
        assert loss == pytest.approx(found[0][1], rel=1e-5)
        assert padding < found[0][2]


def test_weight_decay_skips_biases_and_norms() -> None:
    assert decays("t5.shared.weight", decay_norms=False)
    assert not decays("visual.inner.bias", decay_norms=True)
    assert not decays("adapters.encoder_0_feed_forward.up_bias", decay_norms=True)
    assert not decays("t5.encoder.final_layer_norm.weight", decay_norms=False)
    assert decays("t5.encoder.final_layer_norm.weight", decay_norms=True)
    assert not decays("visual.norm.weight", decay_norms=False)
    parameter = torch.nn.Parameter(torch.ones(2))
    parameter.grad = torch.zeros(2)
    TransformersAdamW([("weight", parameter)], weight_decay=0.5).step(0.1, 1.0)
    assert parameter.tolist() == pytest.approx([0.95, 0.95])


def test_learning_rate_warms_up_and_decays() -> None:
    assert [rate_share(p, 0.1) for p in (0.0, 0.05, 0.1, 0.55, 1.0)] == pytest.approx([0, 0.5, 1, 0.5, 0])
    assert [rate_share(p, 0.0) for p in (0.0, 0.5, 1.0)] == [1, 0.5, 0]
    assert rate_share(1.0, 1.0) == 1.0


def test_a_missing_gpu_is_rejected() -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert device_of(Compute()).type == "cpu"
    with pytest.raises(ParamsError, match="on a machine without a GPU"):
        device_of(Compute(device="cuda"))
    with pytest.raises(ParamsError, match="expected auto, cpu, cuda or cuda:N"):
        device_of(Compute(device="abacus"))


def test_bfloat16_trains_too(place: Context) -> None:
    model, _ = open_model(place)
    loop = LoopParams(schedule=Schedule(epochs=1), batching=Batching(batch_size=45), compute=Compute(dtype="bfloat16"))
    set_trainable(model, tune="full", small_embeddings=True)
    history = fit(model, parts(place, loop)[0], None, loop, seed=1, stage="pretrain")
    assert history.steps == 2
    assert model.t5.shared.weight.dtype == torch.float32


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # where torch cuts the graph
def test_a_compiled_model_takes_the_same_steps(place: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """The backend `eager` traces the model and runs the graph without generating machine code."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # torch cannot trace the checks of annotations
    compiled = torch.nn.Module.compile
    monkeypatch.setattr(VIP5, "compile", lambda self, **how: compiled(self, backend="eager", **how))
    found = []
    for flag in (False, True):
        model, _ = open_model(place, adapters=AdapterParams(reduction=4))
        set_trainable(model, tune="parts", small_embeddings=True)
        loop = LoopParams(
            schedule=Schedule(max_steps=2),
            batching=Batching(batch_size=45, order="length_bucketed"),
            objective=Objective(dropout=0.0),
            compute=Compute(compile=flag, kernels="reference"),
        )
        fit(model, parts(place, loop)[0], None, loop, seed=1, stage="pretrain")
        found.append(model.whole_word.weight.detach())
    torch.testing.assert_close(found[1], found[0], atol=1e-5, rtol=0)
