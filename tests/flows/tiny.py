"""A workspace with a pipeline of two tiny stages that DVC runs, for tests that retrain, kill and clone."""

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from flows.execution.subprocesses import environment
from flows.retrain import run_without_prefect
from flows.retraining import steps
from flows.retraining.config import Run, prepare
from modeling.serving import promoted_model

TRAIN = """\
import json, pathlib, yaml
params = yaml.safe_load(pathlib.Path("params.yaml").read_text())
made = pathlib.Path("data/prepared.txt").read_text()
folder = pathlib.Path("models/tiny/train")
folder.mkdir(parents=True)
(folder / "model.txt").write_text(made + str(params["made"]["quality"]))
value = params["made"]["quality"]
block = {"ndcg@10": value, "hr@10": value, "num_users": 500, "ci95": {"ndcg@10": [value - 0.01, value + 0.01]},
         "slices": {"history_length": {"1-4": {"ndcg@10": value, "hr@10": value, "num_users": 300}}}}
baseline = params["made"]["baseline"]
names = ("popularity", "item_knn", "title_bm25")
gap = value - baseline
block["differences"] = {name: {"ndcg@10": [gap, gap - 0.01, gap + 0.01]} for name in names}
baselines = {name: {"ndcg@10": baseline, "hr@10": baseline} for name in names}
metrics = pathlib.Path("metrics/tiny/evaluate.json")
metrics.parent.mkdir(parents=True, exist_ok=True)
reasons = ["7 of 500 test pairs are in train prompts"] if params["made"]["leaks"] else []
metrics.write_text(json.dumps({"sequential": {"A-3": block}, "baselines": {"sequential": baselines}, "num_users": 500,
                               "leakage": {"leaking": params["made"]["leaks"], "reasons": reasons}}))
with open("runs.txt", "a") as log:
    log.write("train\\n")
"""
STEPS = ["ingest", "reproduce", "drift", "gate", "seal", "promote", "report"]
PREPARE = """\
import pathlib
path = pathlib.Path("data/prepared.txt")
path.parent.mkdir(exist_ok=True)
path.write_text(pathlib.Path("data/raw/tiny/r.json.gz").read_text())
with open("runs.txt", "a") as log:
    log.write("prepare\\n")
"""
PIPELINE: dict[str, Any] = {
    "stages": {
        "prepare": {
            "cmd": "python prepare.py", "deps": ["data/raw/tiny", "prepare.py"], "outs": ["data/prepared.txt"]
        },
        "train": {
            "cmd": "python train.py", "deps": ["data/prepared.txt", "train.py"],
            "params": ["made.quality", "made.leaks", "made.baseline"],
            "outs": ["models/tiny/train", "metrics/tiny/evaluate.json"],
        },
    },
    "metrics": ["metrics/tiny/evaluate.json"],
}  # fmt: skip


def params(
    quality: float = 0.1, *, leaks: bool = False, baseline: float = 0.05, may_lose_to: Sequence[str] = ()
) -> dict[str, Any]:
    return {
        "dataset": "tiny",
        "datasets": {"tiny": {"format": "amazon2014", "reviews": ["r.json.gz"], "metadata": []}},
        "tokenizers": {},
        "sequences": {},
        "retrain": {"recommend": False, "gate": {"may_lose_to": list(may_lose_to)}},
        "made": {"quality": quality, "leaks": leaks, "baseline": baseline},
    }


def set_params(folder: Path, quality: float, **more: Any) -> None:
    (folder / "params.yaml").write_text(yaml.safe_dump(params(quality, **more), sort_keys=False))


def git(folder: Path, *words: str) -> str:
    words = ("-c", "user.name=t", "-c", "user.email=t@example.org", *words)
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def dvc(folder: Path, *words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", *words], cwd=folder, check=False, capture_output=True, text=True,
        env=environment(),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def make(folder: Path, root: Path) -> Path:
    """The workspace, committed, its dump in place; nothing has run."""
    folder.mkdir(parents=True, exist_ok=True)
    git(folder, "init", "-q", "-b", "main")
    dvc(folder, "init", "-q")
    shutil.copy(root / ".dvc/config", folder / ".dvc/config")
    for name in (".gitignore", ".dvcignore"):
        shutil.copy(root / name, folder / name)
    (folder / "prepare.py").write_text(PREPARE)
    (folder / "train.py").write_text(TRAIN)
    (folder / "dvc.yaml").write_text(yaml.safe_dump(PIPELINE, sort_keys=False))
    set_params(folder, 0.1)
    put_dump(folder, "reviews")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "a tiny pipeline")
    return folder


def put_dump(folder: Path, content: str) -> None:
    place = folder / "data/raw/tiny"
    place.mkdir(parents=True, exist_ok=True)
    (place / "r.json.gz").write_text(content)
    (place / "manifest.json").write_text(f'[{{"name": "r.json.gz", "bytes": {len(content)}, "sha256": "x"}}]')


def run_in(folder: Path, run_id: str = "r1") -> Run:
    return prepare("tiny", run_id=run_id, root=folder, report=lambda line: None)


def retrain(folder: Path, run_id: str = "r1") -> steps.Result:
    return run_without_prefect(run_in(folder, run_id))


def quality(folder: Path) -> float:
    """That of the champion, read as a consumer would: pointer, then folder, every byte checked."""
    now = promoted_model.current("tiny", folder)
    assert now is not None
    promoted_model.check(now.folder, whole=True)
    metrics = json.loads((now.folder / "metrics/tiny/evaluate.json").read_text())
    assert metrics["sequential"] == now.about["metrics"]["sequential"]
    return float(metrics["sequential"]["A-3"]["ndcg@10"])


def without_dvc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skips the reproduce step, whose outputs are up to date; DVC needs seconds to find that out."""
    monkeypatch.setattr(steps, "reproduce", lambda run, target=None: None)
