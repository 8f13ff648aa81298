"""A retrain promotes, keeps or refuses a model; a failure leaves the champion; ids are kept."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from features import schema
from features.errors import CommandError, GateError
from features.runtime.params import load_yaml
from features.store import tables
from flows.execution.run_log import read_history
from flows.registry import model_registry
from flows.registry.kept_numbers import kept_ids
from flows.retraining import steps
from flows.retraining.config import prepare
from modeling.serving import promoted_model as promoted_models
from tests.flows import tiny
from tests.flows.test_profile import put_dump
from tests.flows.tiny import STEPS, quality, retrain, run_in, without_dvc

pytestmark = pytest.mark.dvc


def test_the_first_sound_model_becomes_champion(promoted: Path) -> None:
    pointer = json.loads((promoted / "models/tiny/champion.json").read_text())
    assert (promoted / "models/tiny" / pointer["folder"]).name == pointer["digest"]
    assert pointer["about"]["params"]["made"] == {"quality": 0.1, "leaks": False, "baseline": 0.05}
    assert pointer["about"]["git"] == {"revision": tiny.git(promoted, "rev-parse", "HEAD").strip(), "dirty": False}
    assert set(pointer["about"]["data"]) == {"raw"}
    assert quality(promoted) == 0.1
    line = read_history(promoted)[0]
    assert (line["run"], line["decision"], line["digest"]) == ("first", "promote", pointer["digest"])


def test_a_run_without_new_data_changes_nothing(folder: Path) -> None:
    before = (folder / "models/tiny/champion.json").read_bytes()
    assert retrain(folder).decision == "unchanged"
    assert (folder / "models/tiny/champion.json").read_bytes() == before
    assert [line["decision"] for line in read_history(folder)] == ["promote", "unchanged"]


def test_a_gain_above_the_noise_is_promoted(folder: Path) -> None:
    tiny.set_params(folder, 0.2)
    assert retrain(folder).decision == "promote"
    assert quality(folder) == 0.2


def test_a_model_that_is_not_better_leaves_the_champion(
    ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(ready, tmp_path / "copy"))
    without_dvc(monkeypatch)
    path = folder / "metrics/tiny/evaluate.json"
    path.chmod(0o644)
    path.write_text(path.read_text().replace("0.2", "0.101"))
    assert retrain(folder).decision == "keep"
    assert quality(folder) == 0.1


def test_a_leaking_model_is_refused_and_on_record(folder: Path) -> None:
    tiny.set_params(folder, 0.9, leaks=True)
    message = "leakage: leaks: 7 of 500 test pairs are in train prompts, needed nothing leaks"
    with pytest.raises(GateError, match=message):
        retrain(folder)
    assert quality(folder) == 0.1
    verdict = json.loads((folder / "metrics/tiny/gate.json").read_text())
    assert (verdict["decision"], verdict["model"]) == ("refuse", promoted_models.model_digest("tiny", folder))
    assert read_history(folder)[-1]["decision"] == "refuse"


def test_the_same_model_is_refused_once_it_is_known_to_leak(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_dvc(monkeypatch)
    path = folder / "metrics/tiny/evaluate.json"
    path.write_text(path.read_text().replace('"leaking": false', '"leaking": true'))
    with pytest.raises(GateError, match="leakage: leaks"):
        retrain(folder)


def test_a_stage_that_fails_leaves_champion_and_a_line(folder: Path) -> None:
    (folder / "train.py").write_text("raise SystemExit(3)")
    with pytest.raises(CommandError, match="dvc repro with exit code"):
        retrain(folder)
    assert quality(folder) == 0.1
    assert read_history(folder)[-1]["decision"] == "failed"


def test_a_failure_in_any_step_leaves_the_champion(
    ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(ready, tmp_path / "copy"))
    without_dvc(monkeypatch)
    for at in STEPS[:-1]:

        def step(name: str, function: Callable[..., Any], *arguments: Any, at: str = at) -> Any:
            if name == at:
                raise CommandError(f"step {at} that fails", "none", "nothing")
            return function(*arguments)

        with pytest.raises(CommandError, match=f"step {at} that fails"):
            steps.retrain(run_in(folder), step)
        assert quality(folder) == 0.1
        assert read_history(folder)[-1]["reason"].startswith(f"found step {at} that fails")


def test_a_first_model_must_not_lose_to_a_baseline_by_default(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny.make(tmp_path / "weak", root)
    tiny.set_params(folder, 0.1, baseline=0.3)
    result = retrain(folder)
    assert (result.decision, result.outcome) == ("keep", "not promoted; there is no champion yet")
    assert (
        "A-3 ndcg@10 against item_knn: loses by 0.2000 [0.1900, 0.2100] (0.1000, the baseline 0.3000)" in result.reason
    )
    assert not (folder / "models/tiny/champion.json").exists()
    monkeypatch.chdir(folder)
    standing = promoted_models.last_trained("tiny")
    assert standing.startswith("the last trained model, which the gate did not promote (A-3 ndcg@10 against popularity")
    assert standing.endswith("; no model was promoted yet")
    without_dvc(monkeypatch)
    tiny.set_params(folder, 0.1, baseline=0.3, may_lose_to=["popularity", "item_knn", "title_bm25"])
    result = retrain(folder)
    assert result.decision == "promote"
    assert result.reason.count("which retrain.gate.may_lose_to allows") == 3
    assert quality(folder) == 0.1
    assert promoted_models.last_trained("tiny").startswith("the last trained model, which is the champion ")
    promoted_models.pointer_path("tiny").unlink()
    assert promoted_models.last_trained("tiny").endswith("; no champion is chosen of the 1 that were promoted")


def test_a_profile_keeps_the_numbers_and_codes_of_its_champion(
    root: Path, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(root / name, name)
    shutil.copytree(root / "profiles", "profiles")
    params = load_yaml(Path("params.yaml"))
    put_dump("toys", [*params["datasets"]["toys"]["reviews"], *params["datasets"]["toys"]["metadata"]], workspace)
    put_dump("t5_tokenizer", ["tokenizer.json", "spiece.model"], workspace)
    asked: list[list[str]] = []
    monkeypatch.setattr(steps, "dvc", lambda words, *rest, **more: asked.append(list(words)))
    run = prepare("toys", run_id="r1", report=lambda line: None)
    steps.reproduce(run)
    derived = Path("work/profiles/toys")
    assert load_yaml(derived / "params.yaml")["sequences"]["previous_items"] is None
    made = tables.Provenance(stage="sequences", params={})
    for table, row in (
        (schema.CATALOGUE, {"item_id": 1, "item_key": "B1", "num_interactions": 1, "num_train": 1}),
        (schema.USERS, {"user_id": 1, "user_key": "U1", "number": 1, "num_interactions": 1}),
    ):
        tables.write_table(run.places.table(table.name), table, tables.from_rows(table, [row]), made)
    for name in ("models/toys/train/w", "data/toys/identifiers/t"):
        Path(name).parent.mkdir(parents=True)
        Path(name).write_text("x")
    Path("metrics/toys").mkdir(parents=True)
    Path("metrics/toys/evaluate.json").write_text("{}")
    digest, folder = model_registry.seal("toys", model_registry.copy_to_staging("toys"), run.params)
    about = {"params": run.params, "model": "x", "promoted_at": "2020"}
    model_registry.promote("toys", digest, about)
    steps.reproduce(run, "sequences")
    written = load_yaml(derived / "params.yaml")
    kept = f"models/toys/champions/{digest}/data/toys/sequences"
    assert written["sequences"]["previous_items"] == f"{kept}/items"
    assert written["sequences"]["previous_users"] == f"{kept}/users"
    assert written["identifiers"]["previous"] == f"models/toys/champions/{digest}/data/toys/identifiers"
    stages = load_yaml(derived / "dvc.yaml")["stages"]
    assert {f"{kept}/items", f"{kept}/users"} <= set(stages["sequences"]["deps"])
    assert folder == Path(f"models/toys/champions/{digest}")
    assert asked == [["repro", "work/profiles/toys/dvc.yaml"], ["repro", "work/profiles/toys/dvc.yaml:sequences"]]

    def kept_from(**changes: dict[str, str]) -> dict[str, list[str]]:
        params = {section: run.params[section] | changes.get(section, {}) for section in ("sequences", "identifiers")}
        other = promoted_models.Champion(name="toys", digest=digest, folder=folder, about=about | {"params": params})
        monkeypatch.setattr(promoted_models, "current", lambda *_: other)
        return {section: list(values) for section, values in kept_ids(run.params).items()}

    both = ["previous_items", "previous_users"]
    assert kept_from() == {"sequences": both, "identifiers": ["previous"]}
    assert kept_from(identifiers={"scheme": "number"}) == {"sequences": both}
    # numbers of a rule that leaks are not taken over into a run that claims another one
    assert kept_from(sequences={"numbering": "p5"}) == {"sequences": ["previous_users"]}
    assert kept_from(sequences={"user_numbers": "table"}) == {
        "sequences": ["previous_items"], "identifiers": ["previous"]
    }  # fmt: skip
