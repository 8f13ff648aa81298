"""The steps of a retrain as plain functions, in the order in which they run.

Writes the gate's verdict to `metrics/<name>/gate.json`, one line to `metrics/history.jsonl`, and moves the champion
pointer last. Every step that can fail runs before the pointer moves.

Trade-off: the challenger is sealed with its predictions, and pushed, before it is promoted, so that a champion always
has both. A challenger that fails after sealing leaves a folder that no pointer names.
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
from features.store.durable import write_text
from flows.download import dump_files, sources
from flows.execution.run_log import append_history
from flows.execution.subprocesses import dvc, stream
from flows.execution.workspace_lock import dump_lock
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
"""Called as `step(name, function, *arguments)`; returns the result of `function(*arguments)`."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """The outcome of a retrain and the champion after it.

    `decision` is promote, keep, refuse, unchanged or missed.
    """

    decision: str
    reason: str
    champion: Champion | None
    verdict: Verdict | None = None
    drift: Mapping[str, Any] | None = None

    @property
    def outcome(self) -> str:
        """The decision in words."""
        if self.decision == "keep" and self.champion is None:
            return "not promoted; there is no champion yet"
        return {
            "promote": "promoted", "keep": "not promoted; the champion stays", "refuse": "refused",
            "unchanged": "nothing new", "missed": "skipped",
        }[self.decision]  # fmt: skip


def retrain(run: Run, step: StepRunner) -> Result:
    """Runs every step in order through `step`. A failed step leaves the champion unchanged.

    Raises:
        GateError: the challenger is refused; raised after the report is written.
        VIP5Error: a step failed; the history records which.
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
            f"a model that must not be promoted ({result.reason})", "a model without leakage or contract violations",
            f"correct the data or the pipeline, then retrain; {stays}",
        )  # fmt: skip
    return result


def _steps(run: Run, step: StepRunner) -> Result:
    step("ingest", ingest_files, run)
    if run.config.photos:
        step("photos", ingest_photos, run)
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
    if run.config.push:
        step("push", push, run)
    champion = step("promote", promote, run, found, verdict)
    return Result(decision="promote", reason=verdict.reason, champion=champion, verdict=verdict, drift=drift)


def _same(run: Run, before: Champion) -> bool:
    """Whether model and metrics equal the champion's; the same model with different metrics passes the gate again."""
    old = before.places
    model = before.about["model"] == promoted_model.model_digest(run.name, run.root)
    return model and _metrics(old) == _metrics(run.places)


def ingest_files(run: Run) -> list[str]:
    """Downloads new files of a dataset that has URLs; returns the names of the files that changed."""
    dataset = sources.dataset_of(run.name, run.params)
    if run.is_root_pipeline and run.name == "sample":
        return []
    if any(file not in dataset.url_by_file for file in dataset.files):
        dump_files.check_arrived(run.name, dataset.files, run.root)
        return []
    with dump_lock(run.name, run.root, wait_seconds=run.config.wait_seconds):
        sources.fetch_files(run.name, run.params, run.root)
        return _publish(run)


def ingest_photos(run: Run) -> dict[str, int]:
    """Reproduces the catalogue, downloads its missing photos and returns the number of photos by outcome."""
    reproduce(run, "sequences")
    with dump_lock(run.name, run.root, wait_seconds=run.config.wait_seconds):
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
    """Runs `dvc repro` for the whole pipeline, or for one stage and its dependencies."""
    more = {"VIP5_RUN": run.run_id, "VIP5_RUN_LOG": str(stage_log(run).absolute())}
    stage_log(run).parent.mkdir(parents=True, exist_ok=True)
    if run.is_root_pipeline:
        dvc(["repro", *([target] if target else [])], run.root, run.report, more=more)
        return
    pipeline = derived_pipeline.write_pipeline([run.name], run.root)
    targets = [f"{pipeline.as_posix()}:{target}"] if target else [pipeline.as_posix()]
    dvc(["repro", *targets], run.root, run.report, more=more | derived_pipeline.settings(run.root))


def stage_log(run: Run) -> Path:
    """The file to which each stage of a run appends one JSON line."""
    return run.root / "work" / "runs" / run.run_id / "stages.jsonl"


def find_drift(run: Run, before: Champion | None) -> dict[str, Any] | None:
    """Compares the tables with the champion's and writes `reports/<name>/drift.json`; None without a champion."""
    if before is None:
        return None
    drift = {"champion": before.digest, **drift_between(before.places, run.places)}
    path = run.places.report("drift.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(drift, indent=1) + "\n")
    return drift


def gate(run: Run, before: Champion | None) -> Verdict:
    """Judges the model in the workspace."""
    new = _metrics(run.places)
    old = None if before is None else _metrics(before.places)
    paired = None if before is None else compare(run.name, before.folder, run.root, run.config.gate)
    checks = table_checks(run.name, tables_of(run), run.root)
    return judge(new, old, paired, checks, run.config.gate)


def _metrics(places: Places) -> dict[str, Any]:
    path = places.metrics("evaluate.json")
    if not path.is_file():
        raise InputError(f"no metrics file {path}", "a completed pipeline run", "run `.venv/bin/dvc repro`")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def tables_of(run: Run) -> list[str]:
    """The tables that the pipeline writes, as paths below `data/<name>`."""
    stages = load_yaml(run.root / "dvc.yaml")["stages"].values()
    outs = [str(out).replace("${dataset}", run.name) for stage in stages for out in stage.get("outs", [])]
    own = f"data/{run.name}/"
    return [out.removeprefix(own) for out in outs if out.startswith(own)]


def seal(run: Run) -> str:
    """Copies model, tables, metrics and top items of every user into a folder named by its digest."""
    staging = model_registry.copy_to_staging(run.name, run.root)
    if run.config.recommend:
        command = ["-m", "modeling.recommend_all", "--root", str(staging.absolute()), "--params", _params_path(run)]
        if code := stream([sys.executable, *command], run.root, run.report):
            raise GateError(f"modeling.recommend_all with exit code {code}", "exit code 0", "see its output above")
    digest, _ = model_registry.seal(run.name, staging, run.params, run.root)
    return digest


def _params_path(run: Run) -> str:
    path = Path("params.yaml") if run.is_root_pipeline else Path("work/profiles") / run.name / "params.yaml"
    return path.as_posix()


def push(run: Run) -> None:
    """Pushes the pipeline's outputs to the default DVC remote."""
    dvc(["push"], run.root, run.report, more=None if run.is_root_pipeline else derived_pipeline.settings(run.root))


def promote(run: Run, digest: str, verdict: Verdict) -> Champion:
    """Points the champion pointer at the sealed folder and records how the model was made."""
    metrics = _metrics(run.places)
    params = run.config.gate
    about = {
        "run": run.run_id,
        "promoted_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "model": promoted_model.model_digest(run.name, run.root),
        "metrics": {params.family: metrics[params.family], "leakage": metrics["leakage"]},
        "gate": [asdict(check) for check in verdict.checks],
        "params": run.params,
        "numbers_kept_from": {} if run.is_root_pipeline else used_in_last_run(run.params, run.root),
        "data": data_digests(run.places, tables_of(run)),
        "git": git_state(run.root),
    }
    return model_registry.promote(run.name, digest, about, run.root)


def report(run: Run, started: datetime, result: Result) -> dict[str, Any]:
    """Logs the findings, writes `metrics/<name>/gate.json`, appends the entry to the history and returns it."""
    line = _line(run, started, result.decision, result.reason)
    if result.verdict is not None:
        line |= {
            "metric": f"{run.config.gate.prompt} {run.config.gate.metric}",
            "challenger": result.verdict.challenger,
            "champion": result.verdict.champion,
        }
        findings.write_verdict(run.name, run.root, line, result.verdict)
        _report_lines(run, findings.gate_lines(result.verdict))
    if result.drift is not None:
        line["drift"] = result.drift["summary"]
        _report_lines(run, findings.drift_lines(result.drift, result.drift["champion"]))
    line["digest"] = result.champion.digest if result.champion else None
    append_history(run.root, line)
    return line


def _report_lines(run: Run, lines: Sequence[str]) -> None:
    for line in lines:
        run.report(line)


def _line(run: Run, started: datetime, decision: str, reason: str) -> dict[str, Any]:
    finished = datetime.now(UTC)
    return {
        "run": run.run_id, "name": run.name, "started": started.isoformat(timespec="seconds"),
        "finished": finished.isoformat(timespec="seconds"), "decision": decision, "reason": reason[:1000],
        "git": git_state(run.root)["revision"],
    }  # fmt: skip
