import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from features import schema
from features.errors import BusyError, CommandError, GateError, InputError, ModelError, ParamsError
from features.runtime.params import load_yaml
from features.store import tables
from flows import champion
from flows.execution import subprocesses
from flows.execution.run_log import read_history
from flows.execution.workspace_lock import workspace_lock
from flows.registry import champion_report, model_registry
from flows.registry.kept_numbers import kept_ids
from flows.retrain import run_without_prefect
from flows.retraining import steps
from flows.retraining.config import Run, prepare
from modeling.serving import promoted_model as promoted_models
from tests.flows import tiny
from tests.flows.test_profile import put_dump

STEPS = ["ingest", "reproduce", "drift", "gate", "seal", "promote", "report"]


@pytest.fixture(scope="module")
def promoted(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny workspace that has its first champion."""
    folder = tiny.make(tmp_path_factory.mktemp("tiny") / "first", root)
    retrain(folder, "first")
    return folder


@pytest.fixture
def folder(promoted: Path, tmp_path: Path) -> Path:
    """A copy of it, in which a test may do what it likes."""
    return Path(shutil.copytree(promoted, tmp_path / "copy"))


def run_in(folder: Path, run_id: str = "r1") -> Run:
    return prepare("tiny", run_id=run_id, root=folder, report=lambda line: None)


def retrain(folder: Path, run_id: str = "r1") -> steps.Result:
    return run_without_prefect(run_in(folder, run_id))


def quality(folder: Path) -> float:
    """That of the champion, read as a consumer would: pointer, then folder, every byte checked."""
    now = promoted_models.current("tiny", folder)
    assert now is not None
    promoted_models.check(now.folder, whole=True)
    metrics = json.loads((now.folder / "metrics/tiny/evaluate.json").read_text())
    assert metrics["sequential"] == now.about["metrics"]["sequential"]
    return float(metrics["sequential"]["A-3"]["ndcg@10"])


pytestmark = pytest.mark.dvc


def test_the_first_sound_model_becomes_champion(promoted: Path) -> None:
    pointer = json.loads((promoted / "models/tiny/champion.json").read_text())
    assert (promoted / "models/tiny" / pointer["folder"]).name == pointer["digest"]
    assert pointer["about"]["params"]["train"] == {"quality": 0.1, "leaks": False, "baseline": 0.05}
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
    told = "leakage: leaks: 7 of 500 test pairs are in train prompts, needed nothing leaks"
    with pytest.raises(GateError, match=told):
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


def kill_in(folder: Path, at: str, when: str) -> None:
    """In a child: retrains and kills itself, without any clean-up, before or after step `at`."""

    def step(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        if name == at and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        found = function(*arguments)
        if name == at:
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    with workspace_lock("killed", "tiny", folder):
        steps.retrain(run_in(folder, "killed"), step)


def child(function: Callable[..., None], *arguments: Any, start: str = "fork") -> int:
    """Exit code of `function` in a process of its own; "forkserver" forks one that no other test has run in."""
    process = multiprocessing.get_context(start).Process(target=function, args=arguments)  # type: ignore[attr-defined]
    process.start()
    process.join(120)
    assert process.exitcode is not None
    return process.exitcode


@pytest.fixture(scope="module")
def ready(promoted: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of `promoted` in which a better model has been trained, but not promoted."""
    folder = Path(shutil.copytree(promoted, tmp_path_factory.mktemp("tiny") / "ready"))
    tiny.set_params(folder, 0.2)
    tiny.dvc(folder, "repro", "-q")
    return folder


def without_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line has run already: seconds of DVC finding that out are left out."""
    monkeypatch.setattr(steps, "reproduce", lambda run, target=None: None)


def test_a_kill_at_any_step_leaves_a_complete_champion(
    ready: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for at in ["reproduce", *STEPS]:  # the first time with the real DVC
        folder = Path(shutil.copytree(ready, tmp_path / at))
        assert child(kill_in, folder, at, "after") == -signal.SIGKILL
        assert quality(folder) == (0.2 if at in {"promote", "report"} else 0.1), at
        assert retrain(folder, "again").decision == ("unchanged" if at in {"promote", "report"} else "promote")
        assert quality(folder) == 0.2
        without_dvc(monkeypatch)
        shutil.rmtree(folder)


def kill_at_change(folder: Path, number: int) -> None:
    """In a child: seals and promotes, and kills itself at the `number`-th change of the file system."""
    changes = iter(range(1, number + 1))

    def audit(event: str, arguments: tuple[Any, ...]) -> None:
        writes = event == "open" and isinstance(arguments[2], int) and arguments[2] & (os.O_WRONLY | os.O_RDWR)
        changing = writes or event in {"os.rename", "os.mkdir", "os.chmod", "os.remove", "os.rmdir"}
        if changing and str(folder) in str(arguments[0]) and next(changes) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    run = run_in(folder, "killed")
    verdict = steps.gate(run, promoted_models.current("tiny", folder))
    sys.addaudithook(audit)
    steps.promote(run, steps.seal(run), verdict)


@pytest.mark.slow
def test_a_kill_at_any_file_change_leaves_a_complete_champion(ready: Path, tmp_path: Path) -> None:
    multiprocessing.get_context("forkserver").set_forkserver_preload(["tests.flows.test_retrain"])
    seen = []
    for number in range(1, 100):
        folder = Path(shutil.copytree(ready, tmp_path / str(number)))
        code = child(kill_at_change, folder, number, start="forkserver")
        seen.append(quality(folder))
        if code == 0:
            break
        run = run_in(folder)
        verdict = steps.gate(run, promoted_models.current("tiny", folder))
        steps.promote(run, steps.seal(run), verdict)
        assert quality(folder) == 0.2
    assert code == 0
    assert len(seen) > 10
    assert seen == sorted(seen)
    assert (seen[0], seen[-1]) == (0.1, 0.2)


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


def test_an_earlier_champion_can_be_used_again(
    ready: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = Path(shutil.copytree(ready, tmp_path / "copy"))
    without_dvc(monkeypatch)
    retrain(folder)
    monkeypatch.chdir(folder)
    first, second = (model.digest for model in model_registry.promoted_models("tiny"))
    assert quality(folder) == 0.2
    assert champion.main(["tiny"]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line[:1] in "*-" and line] == [
        f"- {first}", f"* {second}  the champion"
    ]  # fmt: skip
    few = next(first[:length] for length in range(1, 17) if first[:length] != second[:length])
    assert champion.main(["tiny", "--use", few]) == 0
    assert f"* {first}  the champion" in capsys.readouterr().out
    assert quality(folder) == 0.1
    assert champion.main(["tiny", "--use", "nosuch"]) == 3
    assert f"found no champion 'nosuch' of tiny; expected one of: {first}, {second}; " in caplog.text
    assert champion.main(["tiny", "--use", ""]) == 3
    assert quality(folder) == 0.1


def test_digits_that_two_champions_begin_with_are_refused(tmp_path: Path) -> None:
    home = promoted_models.home("tiny", tmp_path)
    home.mkdir(parents=True)
    for digest in ("ab12" * 4, "ab34" * 4):
        (home / f"{digest}.about.json").write_text('{"promoted_at": "2026-11-28T19:30:00+00:00"}')
    told = (
        r"found 2 champions of tiny that begin with 'ab'; expected one of: (ab12){4}, (ab34){4}; do: write more digits"
    )
    with pytest.raises(InputError, match=told):
        model_registry.use("tiny", "ab", tmp_path)


def test_a_promoted_model_is_listed_with_code_and_metrics(promoted: Path) -> None:
    now = promoted_models.current("tiny", promoted)
    assert now is not None
    revision = tiny.git(promoted, "rev-parse", "HEAD").strip()
    assert champion_report.report("tiny", promoted) == [
        "tiny: 1 promoted model, oldest first", "", f"* {now.digest}  the champion",
        f"    promoted   {now.promoted_at}, run first", f"    code       git {revision[:12]}",
        f"    data       500 users (dump {now.about['data']['raw'][:8]})",
        "    metric     A-3 ndcg@10 0.1000 [0.0900, 0.1100]",
        "    baseline   popularity 0.0500, the best of 3; the model against it: wins by 0.0500 [0.0400, 0.0600]",
    ]  # fmt: skip


def test_an_unknown_dataset_is_reported_with_the_nearest_name(promoted: Path) -> None:
    champion.check_name("tiny", promoted)
    with pytest.raises(ParamsError, match="found dataset 'tony'; expected tiny "):
        champion.check_name("tony", promoted)


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


@pytest.mark.parametrize(
    "content", ["", "[]", '{"digest": "x", "about": {}}', '{"digest": "../../../../x", "about": {}}']
)
def test_a_pointer_that_names_no_champion_is_one_line(tmp_path: Path, content: str) -> None:
    path = promoted_models.pointer_path("tiny", tmp_path)
    path.parent.mkdir(parents=True)
    path.write_text(content)
    with pytest.raises(ModelError, match=r"champion\.json that .* --use DIGEST\) or retrain"):
        promoted_models.current("tiny", tmp_path)


def test_a_champion_that_was_tampered_with_is_noticed(folder: Path) -> None:
    now = promoted_models.current("tiny", folder)
    assert now is not None
    model = now.folder / "models/tiny/train/model.txt"
    assert model.stat().st_mode & 0o222 == 0
    size = model.stat().st_size
    model.chmod(0o644)
    model.write_text("x" * size)
    with pytest.raises(ModelError, match="with other bytes than were sealed"):
        promoted_models.check(now.folder, whole=True)
    model.write_text("short")
    with pytest.raises(ModelError, match="that is not as it was sealed"):
        promoted_models.current("tiny", folder)


def hold(folder: Path, seconds: float) -> None:
    with workspace_lock("the first", "tiny", folder):
        (folder / "held").touch()
        time.sleep(seconds)


@pytest.mark.parametrize(("wait", "gets_it"), [(0.0, False), (30.0, True)])
def test_the_second_of_two_runs_leaves_or_waits(tmp_path: Path, wait: float, gets_it: bool) -> None:
    process = multiprocessing.get_context("fork").Process(target=hold, args=(tmp_path, 1.5))
    process.start()
    while not (tmp_path / "held").exists():
        time.sleep(0.02)
    if gets_it:
        with workspace_lock("the second", "tiny", tmp_path, wait_seconds=wait):
            pass
    else:
        told = r"a retrain in progress \(run the first, name tiny, process \d+, started "
        with pytest.raises(BusyError, match=told), workspace_lock("the second", "tiny", tmp_path, wait_seconds=wait):
            pass
    process.join()
    with workspace_lock("the third", "tiny", tmp_path):
        pass


def test_output_is_streamed_line_by_line(tmp_path: Path) -> None:
    said: list[str] = []
    assert (
        subprocesses.stream([sys.executable, "-c", "print('one'); print(); print('two')"], tmp_path, said.append) == 0
    )
    assert said == ["one", "two"]


def test_what_stops_us_stops_the_command_and_its_children(tmp_path: Path) -> None:
    script = "import subprocess, sys; p = subprocess.Popen(['sleep', '60']); print(p.pid, flush=True); p.wait()"
    pids: list[int] = []

    def listen(line: str) -> None:
        pids.append(int(line))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        subprocesses.stream([sys.executable, "-c", script], tmp_path, listen)
    deadline = time.monotonic() + 10
    while Path(f"/proc/{pids[0]}/stat").exists() and time.monotonic() < deadline:
        if Path(f"/proc/{pids[0]}/stat").read_text().split()[2] == "Z":
            break
        time.sleep(0.05)
    else:
        assert time.monotonic() < deadline


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
    line = Path("work/profiles/toys")
    assert load_yaml(line / "params.yaml")["sequences"]["previous_items"] is None
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
    written = load_yaml(line / "params.yaml")
    kept = f"models/toys/champions/{digest}/data/toys/sequences"
    assert written["sequences"]["previous_items"] == f"{kept}/items"
    assert written["sequences"]["previous_users"] == f"{kept}/users"
    assert written["identifiers"]["previous"] == f"models/toys/champions/{digest}/data/toys/identifiers"
    stages = load_yaml(line / "dvc.yaml")["stages"]
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
