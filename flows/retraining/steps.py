"""The steps of a retrain as plain functions, and their order: everything that can fail comes before the pointer moves.

Enters: a dataset's name and `params.yaml`. Leaves: a new champion or the old one, the gate's verdict in
`metrics/<name>/gate.json`, and a line in `metrics/history.jsonl`. Trade-off: the challenger is sealed with its
predictions, and pushed, before it is promoted, so that a champion is never without them; a challenger that then fails
leaves a folder that nobody points at.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from features.errors import GateError, InputError, VIP5Error
from features.runtime.params import load_yaml
from features.runtime.stage import Places
from flows.download import dump_files, sources
from flows.execution.run_log import append_history
from flows.execution.subprocesses import dvc, stream
from flows.pipeline import derived_pipeline
from flows.registry import findings, model_registry
from flows.registry.drift import drift_between
from flows.registry.kept_numbers import used_in_last_run
from flows.registry.provenance import data_digests, git_state
from flows.registry.quality_gate import Verdict, compare, judge, table_checks
from flows.retraining.config import Run
from modeling.serving import promoted_model
from modeling.serving.promoted_model import Champion

StepRunner = Callable[..., Any]
"""Called as step(name, function, *arguments); runs the function and returns what it returns."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """How a retrain ended: promote, keep, refuse or unchanged; the champion that now stands."""

    decision: str
    reason: str
    champion: Champion | None
    verdict: Verdict | None = None
    drift: Mapping[str, Any] | None = None

    @property
    def outcome(self) -> str:
        """How it ended, for people."""
        if self.decision == "keep" and self.champion is None:
            return "not promoted; there is no champion yet"
        return {
            "promote": "promoted", "keep": "not promoted; the champion stays", "refuse": "refused",
            "unchanged": "nothing new", "missed": "skipped",
        }[self.decision]  # fmt: skip


def retrain(run: Run, step: StepRunner) -> Result:
    """Runs every step in order through `step`; a failure of any leaves the champion as it was.

    Raises:
        GateError: the challenger is not sound; after the report was written.
        VIP5Error: a step failed; a line in the history says which.
    """
    started = datetime.now(UTC)
    try:
        result = _steps(run, step)
    except VIP5Error as error:
        append_history(run.root, _line(run, started, "failed", str(error)))
        raise
    step("report", report, run, started, result)
    if result.decision == "refuse":
        stays = "no model was promoted" if result.champion is None else "the champion stays"
        raise GateError(
            f"a model that must not be promoted ({result.reason})", "one that neither leaks nor breaks a contract",
            f"correct the data or the pipeline, then retrain; {stays}",
        )  # fmt: skip
    return result


def _steps(run: Run, step: StepRunner) -> Result:
    step("ingest", bring_in, run)
    if run.how.photos:
        step("photos", bring_photos, run)
    step("reproduce", reproduce, run)
    before = promoted_model.current(run.name, run.root)
    drift = step("drift", find_drift, run, before)
    if before is not None and _same(run, before):
        return Result(decision="unchanged", reason="the same model as the champion", champion=before, drift=drift)
    verdict = step("gate", gate, run, before)
    if verdict.decision != "promote":
        return Result(
            decision=verdict.decision, reason=verdict.reason, champion=before, verdict=verdict, drift=drift
        )  # fmt: skip
    found = step("seal", seal, run)
    if run.how.push:
        step("push", push, run)
    champion = step("promote", promote, run, found, verdict)
    return Result(decision="promote", reason=verdict.reason, champion=champion, verdict=verdict, drift=drift)


def _same(run: Run, before: Champion) -> bool:
    """Whether model and metrics are the champion's; the same model with other metrics must pass the gate again."""
    old = before.places
    model = before.about["model"] == promoted_model.model_digest(run.name, run.root)
    return model and _metrics(old) == _metrics(run.places)


def bring_in(run: Run) -> list[str]:
    """Fetches what is new where the data set has addresses; returns the names of the files that changed."""
    dataset = sources.dataset_of(run.name, run.params)
    if run.is_root_line and run.name == "sample":
        return []
    if any(file not in dataset.urls for file in dataset.files):
        dump_files.check_arrived(run.name, dataset.files, run.root)
        return []
    sources.fetch_files(run.name, run.params, run.root)
    return _publish(run)


def bring_photos(run: Run) -> dict[str, int]:
    """Fetches the photos that are not here yet, once the catalogue is known; returns how many had which outcome."""
    reproduce(run, "sequences")
    counts = sources.fetch_photos(run.name, run.params, run.root)
    _publish(run)
    return dict(counts)


def _publish(run: Run) -> list[str]:
    dump_files.discard_staging(run.name, run.root)
    transfers = sources.plan_fetched(run.name, run.params, run.root)
    arrivals = [dump_files.fetch(transfer, run.name, run.root) for transfer in transfers]
    for transfer, arrival in zip(transfers, arrivals, strict=True):
        dump_files.verify(transfer, arrival)
    return dump_files.publish(run.name, arrivals, run.root)


def reproduce(run: Run, target: str | None = None) -> None:
    """`dvc repro`, of the whole line or of one stage and what it needs."""
    more = {"VIP5_RUN": run.run_id, "VIP5_RUN_LOG": str(stage_log(run).absolute())}
    stage_log(run).parent.mkdir(parents=True, exist_ok=True)
    if run.is_root_line:
        dvc(["repro", *([target] if target else [])], run.root, run.tell, more=more)
        return
    line = derived_pipeline.write_line([run.name], run.root)
    words = [f"{line.as_posix()}:{target}"] if target else [line.as_posix()]
    dvc(["repro", *words], run.root, run.tell, more=more | derived_pipeline.settings(run.root))


def stage_log(run: Run) -> Path:
    """Where the stages of a run write one JSON line each."""
    return run.root / "work" / "runs" / run.run_id / "stages.jsonl"


def find_drift(run: Run, before: Champion | None) -> dict[str, Any] | None:
    """How the tables differ from the champion's; also written to `reports/<name>/drift.json`."""
    if before is None:
        return None
    drift = {"champion": before.digest, **drift_between(before.places, run.places)}
    path = run.places.report("drift.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(drift, indent=1) + "\n", encoding="utf-8")
    return drift


def gate(run: Run, before: Champion | None) -> Verdict:
    """The verdict on what the workspace holds."""
    new = _metrics(run.places)
    old = None if before is None else _metrics(before.places)
    paired = None if before is None else compare(run.name, before.folder, run.root, run.how.gate)
    checks = table_checks(run.name, tables_of(run), run.root)
    return judge(new, old, paired, checks, run.how.gate)


def _metrics(places: Places) -> dict[str, Any]:
    path = places.metrics("evaluate.json")
    if not path.is_file():
        raise InputError(f"no metrics file {path}", "a line that ran to its end", "run `.venv/bin/dvc repro`")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def tables_of(run: Run) -> list[str]:
    """The tables that the line makes, as paths below data/<name>."""
    stages = load_yaml(run.root / "dvc.yaml")["stages"].values()
    outs = [str(out).replace("${dataset}", run.name) for stage in stages for out in stage.get("outs", [])]
    own = f"data/{run.name}/"
    return [out.removeprefix(own) for out in outs if out.startswith(own)]


def seal(run: Run) -> str:
    """Puts model, tables, metrics and the top items of every user into a folder named by its content."""
    staging = model_registry.stage(run.name, run.root)
    if run.how.recommend:
        words = ["-m", "modeling.recommend_all", "--root", str(staging.absolute()), "--params", _params_path(run)]
        if code := stream([sys.executable, *words], run.root, run.tell):
            raise GateError(f"recommendations that ended with exit code {code}", "0", "see its lines above")
    digest, _ = model_registry.seal(run.name, staging, run.params, run.root)
    return digest


def _params_path(run: Run) -> str:
    path = Path("params.yaml") if run.is_root_line else Path("work/profiles") / run.name / "params.yaml"
    return path.as_posix()


def push(run: Run) -> None:
    """`dvc push` of the line's outputs to the default remote."""
    dvc(["push"], run.root, run.tell, more=None if run.is_root_line else derived_pipeline.settings(run.root))


def promote(run: Run, digest: str, verdict: Verdict) -> Champion:
    """Moves the pointer to the sealed folder."""
    metrics = _metrics(run.places)
    params = run.how.gate
    about = {
        "run": run.run_id,
        "promoted_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": promoted_model.model_digest(run.name, run.root),
        "metrics": {params.family: metrics[params.family], "leakage": metrics["leakage"]},
        "gate": [asdict(check) for check in verdict.checks],
        "params": run.params,
        "numbers_kept_from": {} if run.is_root_line else used_in_last_run(run.params, run.root),
        "data": data_digests(run.places, tables_of(run)),
        "git": git_state(run.root),
    }
    return model_registry.promote(run.name, digest, about, run.root)


def report(run: Run, started: datetime, result: Result) -> dict[str, Any]:
    """Says what was found, writes the verdict to `metrics/<name>/gate.json` and the line in the history; returns it."""
    line = _line(run, started, result.decision, result.reason)
    if result.verdict is not None:
        line |= {"metric": f"{run.how.gate.prompt} {run.how.gate.metric}", "challenger": result.verdict.challenger,
                 "champion": result.verdict.champion}  # fmt: skip
        findings.write_verdict(run.name, run.root, line, result.verdict)
        _tell(run, findings.gate_lines(result.verdict))
    if result.drift is not None:
        line["drift"] = result.drift["summary"]
        _tell(run, findings.drift_lines(result.drift, result.drift["champion"]))
    line["digest"] = result.champion.digest if result.champion else None
    append_history(run.root, line)
    return line


def _tell(run: Run, lines: Sequence[str]) -> None:
    for line in lines:
        run.tell(line)


def _line(run: Run, started: datetime, decision: str, reason: str) -> dict[str, Any]:
    finished = datetime.now(UTC)
    return {
        "run": run.run_id, "name": run.name, "started": started.isoformat(timespec="seconds"),
        "finished": finished.isoformat(timespec="seconds"), "decision": decision, "reason": reason[:1000],
        "git": git_state(run.root)["revision"],
    }  # fmt: skip
