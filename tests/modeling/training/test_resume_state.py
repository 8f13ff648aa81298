"""A killed run resumes with identical results; failures leave a usable state."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from features.errors import ModelError, ParamsError, TrainingError
from features.runtime.stage import Context
from modeling import pretrain, train
from modeling.config.model import AdapterParams, VisionParams
from modeling.config.training import Batching, Checkpoint, LoopParams, Objective, Optimizer, Schedule, Validation
from modeling.data.prompt_dataset import PhotoTable, PromptDataset
from modeling.models.checkpoints import open_model
from modeling.models.vip5 import VIP5, set_trainable
from modeling.runtime.malloc import is_out_of_memory
from modeling.training.loop import fit
from modeling.training.optimizer import TransformersAdamW
from modeling.training.resume_state import STATE_FILE, TENSORS_FILE, State, load_state, save_state
from modeling.training.run_files import prompt_tables
from modeling.training.training_log import TrainingLog
from modeling.training.validation import Validator, fixed_rows
from tests.modeling.world import WIDTH, changed, write_world

LOOP = LoopParams(
    schedule=Schedule(epochs=3),
    batching=Batching(batch_size=20, max_tokens_per_microbatch=300),
    optimizer=Optimizer(learning_rate=0.01),
    objective=Objective(dropout=0.2),
    validation=Validation(every_steps=4, examples_per_family=5, checkpoint_metric="loss"),
    checkpoint=Checkpoint(every_steps=1),
)
NUM_STEPS = 3 * 5


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Context:
    made = write_world(tmp_path_factory.mktemp("world"))
    pretrain.run(
        pretrain.Params(schedule=Schedule(epochs=1, max_steps=1), validation=Validation(examples_per_family=0)),
        made,
    )
    return made


def start(place: Context, loop: LoopParams, folder: Path | None) -> tuple[VIP5, TrainingLog]:
    vision = VisionParams(width=WIDTH, num_visual_tokens=2)
    model, tokens = open_model(
        place, adapters=AdapterParams(reduction=4), vision=vision, dropout=loop.objective.dropout
    )
    set_trainable(model, tune="parts", small_embeddings=True)
    photos = PhotoTable.load(place.table("images/embeddings"))
    corpus = PromptDataset.load(prompt_tables(place, "train"), tokens, photos)
    measure = Validator(corpus, fixed_rows(corpus, ["A-3", "B-5", "C-3"], loop.validation.examples_per_family, seed=5))
    return model, fit(model, corpus, measure, loop, seed=1, stage="train", checkpoints=folder)


class Killed(BaseException):
    """Stands for a signal, which no code catches."""


@pytest.mark.parametrize(
    ("kernels", "moments"),  # before any state, at a validation, between two states, in the last step
    [("fused", (1, 4, 9, NUM_STEPS)), ("reference", (9,))],
)
def test_a_run_killed_at_any_step_resumes_with_the_same_losses(
    place: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernels: Any, moments: tuple[int, ...]
) -> None:
    loop = changed(LOOP, compute={"kernels": kernels})
    whole_model, whole = start(place, loop, None)
    assert whole.steps == NUM_STEPS
    step = TransformersAdamW.step
    for killed_in in moments:

        def killed(self: TransformersAdamW, rate: float, clip: float, at: int = killed_in) -> torch.Tensor:
            if self.steps + 1 == at:
                raise Killed
            return step(self, rate, clip)

        folder = tmp_path / str(killed_in)
        monkeypatch.setattr(TransformersAdamW, "step", killed)
        with pytest.raises(Killed):
            start(place, loop, folder)
        monkeypatch.setattr(TransformersAdamW, "step", step)
        model, history = start(place, loop, folder)
        assert history.rows == whole.rows  # every loss, to the last bit
        assert (history.examples, history.source_tokens, history.best_step, history.best) == (
            whole.examples, whole.source_tokens, whole.best_step, whole.best,
        )  # fmt: skip
        for (name, one), two in zip(whole_model.named_parameters(), model.parameters(), strict=True):
            assert torch.equal(one, two), name


def test_states_are_saved_when_due_and_the_newest_two_stay(place: Context, tmp_path: Path) -> None:
    start(place, changed(LOOP, checkpoint={"every_steps": 6}), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["step-000000006", "step-000000012"]
    state = json.loads((tmp_path / "step-000000012" / STATE_FILE).read_text(encoding="utf-8"))
    assert state["random"] == {"seed": 1, "stage": "train", "next_step": 12}
    start(
        place,
        changed(LOOP, checkpoint={"every_steps": None, "every_seconds": 1e-9}, schedule={"epochs": 1}),
        tmp_path / "by time",
    )
    assert sorted(path.name for path in (tmp_path / "by time").iterdir()) == ["step-000000003", "step-000000004"]
    start(place, changed(LOOP, checkpoint={"every_steps": None, "every_seconds": 900.0}), tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_an_incomplete_state_is_ignored(tmp_path: Path) -> None:
    save_state(tmp_path, State(3, {"weight:a": torch.ones(2)}, {"history": {}}))
    (tmp_path / "step-000000009").mkdir()
    (tmp_path / ".staging").mkdir()
    state = load_state(tmp_path)
    assert state is not None
    assert (state.step, state.tensors["weight:a"].tolist()) == (3, [1.0, 1.0])
    path = tmp_path / "step-000000003" / STATE_FILE
    path.write_text(path.read_text(encoding="utf-8").replace('"format": 2', '"format": 9'), encoding="utf-8")
    with pytest.raises(ModelError, match="format 9"):
        load_state(tmp_path)
    assert load_state(tmp_path / "nowhere") is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "no tensors", "json", "list", "no digest", "nan"])
def test_a_damaged_state_is_put_aside_for_the_one_before(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: str
) -> None:
    for step in (3, 4, 5):
        save_state(tmp_path, State(step, {"weight:a": torch.full((8,), float(step))}, {"history": {}}))
    tensors, state_file = (tmp_path / "step-000000005" / name for name in (TENSORS_FILE, STATE_FILE))
    values = json.loads(state_file.read_text(encoding="utf-8"))
    whole = tensors.read_bytes()
    match damage:
        case "cut":
            tensors.write_bytes(whole[:-7])
        case "flipped":
            tensors.write_bytes(whole[:-1] + bytes([whole[-1] ^ 128]))
        case "nan":
            tensors.write_bytes(whole[:-4] + b"\0\0\xc0\x7f")
        case "no tensors":
            tensors.unlink()
        case "json":
            state_file.write_text("{", encoding="utf-8")
        case "list":
            state_file.write_text("[]", encoding="utf-8")
        case "no digest":
            state_file.write_text(json.dumps({"format": values["format"], "step": 5}), encoding="utf-8")
    state = load_state(tmp_path)
    assert state is not None
    assert state.step == 4
    assert len(caplog.messages) == 1
    assert "put the damaged checkpoint" in caplog.text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged-step-000000005", "step-000000004"]
    again = load_state(tmp_path)
    assert again is not None
    assert again.step == 4


def test_without_resume_the_run_starts_from_step_zero(place: Context, tmp_path: Path) -> None:
    start(place, changed(LOOP, schedule={"max_steps": 2}), tmp_path)
    _, history = start(place, changed(LOOP, schedule={"max_steps": 2}, checkpoint={"resume": False}), tmp_path)
    assert history.rows[0]["step"] == 2
    assert history.examples == 40


def test_non_finite_losses_leave_a_usable_state(
    place: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = VIP5.forward

    def overflowing(self: VIP5, batch: Any, soft: Any = None, masked_tokens: Any = None) -> Any:
        losses = forward(self, batch, soft)
        return replace(losses, values=losses.values * (torch.nan if calls.append(1) or len(calls) > 9 else 1))

    calls: list[int] = []
    monkeypatch.setattr(VIP5, "forward", overflowing)
    loop = changed(
        LOOP,
        checkpoint={"every_steps": None},
        validation={"every_steps": 1000},
        batching={"order": "length_bucketed", "max_tokens_per_microbatch": None},
    )
    with pytest.raises(TrainingError, match=r"non-finite loss by step 15 of train \(the previous state is in .*step-0"):
        start(place, loop, tmp_path)
    state = load_state(tmp_path)
    assert state is not None
    assert all(t.isfinite().all() for name, t in state.tensors.items() if name != "sums")


def test_out_of_memory_is_an_error_that_leaves_a_state(
    place: Context, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole_model, _ = start(place, LOOP, None)
    forward, calls = VIP5.forward, list[int]()

    def hungry(self: VIP5, batch: Any, soft: Any = None, masked_tokens: Any = None) -> Any:
        calls.append(1)
        if len(calls) == 20:
            torch.empty(2**60)  # torch's own message
        return forward(self, batch, soft)

    monkeypatch.setattr(VIP5, "forward", hungry)
    with pytest.raises(TrainingError) as caught:
        start(place, changed(LOOP, checkpoint={"every_steps": None}), tmp_path)
    assert str(caught.value).startswith("found out of memory in step ")
    assert str(caught.value).endswith("do: lower train.batching.max_tokens_per_microbatch (now 300)")
    assert "\n" not in str(caught.value)
    monkeypatch.setattr(VIP5, "forward", forward)
    model, _ = start(place, LOOP, tmp_path)
    assert torch.equal(model.whole_word.weight, whole_model.whole_word.weight)
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("size mismatch"))


def test_a_stage_resumes_and_removes_its_states(place: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    params = train.Params(adapters=AdapterParams(reduction=4), **vars(changed(LOOP, schedule={"max_steps": 6})))
    whole = train.run(params, place)
    expected = place.plots("train.csv").read_text(encoding="utf-8")
    step = TransformersAdamW.step

    def killed(self: TransformersAdamW, rate: float, clip: float) -> torch.Tensor:
        if self.steps == 3:
            raise Killed
        return step(self, rate, clip)

    monkeypatch.setattr(TransformersAdamW, "step", killed)
    with pytest.raises(Killed):
        train.run(params, place)
    monkeypatch.setattr(TransformersAdamW, "step", step)
    folders = list((place.root / "work" / "checkpoints").iterdir())
    assert max(path.name for path in folders[0].iterdir()) == "step-000000003"
    longer = changed(params, checkpoint={"every_steps": 2})  # the interval does not affect the model
    assert train.run(longer, place) == whole
    assert place.plots("train.csv").read_text(encoding="utf-8") == expected
    assert not folders[0].exists()


def test_checkpoint_intervals_out_of_range_are_rejected() -> None:
    with pytest.raises(ValueError, match="every_steps must be at least 1"):
        Checkpoint(every_steps=0)
    with pytest.raises(ValueError, match="every_seconds must be above 0"):
        Checkpoint(every_seconds=0.0)
    assert issubclass(ParamsError, ValueError) is False
