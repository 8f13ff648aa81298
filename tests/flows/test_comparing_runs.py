"""`dvc metrics diff` and `dvc plots diff` between a committed run and the workspace, as this line declares them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from features.params import load_yaml
from modeling.curves import COLUMNS

WRITE = """\
import csv, json, pathlib, sys, yaml
hits = yaml.safe_load(open("params.yaml"))["hits"]
def put(path, text):
    pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
    pathlib.Path(path).write_text(text)
for path in sys.argv[1].split(","):
    if path.endswith(".json"):
        put(path, json.dumps({"sequential": {"A-3": {"hr@10": hits, "num_users": 800, "ci95": {"hr@10": [0.1, 0.3]}}}}))
    elif path.endswith("ranks.csv"):
        rows = [f"sequential,A-3,VIP5,{k},{hits * k / 10}" for k in range(1, 11)]
        put(path, "\\n".join(["family,prompt_id,model,k,hit_rate", *rows]) + "\\n")
    else:
        columns = sys.argv[2].split(",")
        rows = [",".join([str(step), *[str(hits)] * (len(columns) - 1)]) for step in (20, 40)]
        put(path, "\\n".join([",".join(columns), *rows]) + "\\n")
"""


def line_of(root: Path) -> dict[str, Any]:
    """Our dvc.yaml with only what metrics and plots are about: the same files, made in a moment by one script."""
    ours = load_yaml(root / "dvc.yaml")
    stages = {}
    for name, stage in ours["stages"].items():
        outs = [out for out in stage["outs"] if out.startswith(("metrics/", "plots/"))]
        if outs:
            cmd = f"python write.py {','.join(outs)} {','.join(COLUMNS)}"
            stages[name] = {"cmd": cmd, "deps": ["write.py"], "params": ["dataset", "hits"], "outs": outs}
    return {"stages": stages, "metrics": ours["metrics"], "plots": ours["plots"]}


def run(*command: str) -> str:
    settings = {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}", "DVC_NO_ANALYTICS": "1",
        "GIT_AUTHOR_NAME": "t", "GIT_AUTHOR_EMAIL": "t@t", "GIT_COMMITTER_NAME": "t", "GIT_COMMITTER_EMAIL": "t@t",
    }  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ | settings)
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def dvc(*arguments: str) -> str:
    return run(sys.executable, "-m", "dvc", *arguments)


@pytest.fixture
def two_runs(root: Path, workspace: Path) -> None:
    """One run committed, another one in the workspace."""
    run("git", "init", "-q")
    dvc("init", "-q")
    (workspace / ".dvc/config").write_text((root / ".dvc/config").read_text())
    (workspace / ".gitignore").write_text((root / ".gitignore").read_text())
    (workspace / "write.py").write_text(WRITE)
    (workspace / "dvc.yaml").write_text(yaml.safe_dump(line_of(root), sort_keys=False))
    for hits in (0.2, 0.25):
        (workspace / "params.yaml").write_text(f"dataset: sample\nhits: {hits}\n")
        dvc("repro", "-q")
        if hits == 0.2:
            run("git", "add", "-A")
            run("git", "commit", "-qm", "first run")


@pytest.mark.dvc
@pytest.mark.slow
def test_metrics_and_curves_of_two_runs_stand_side_by_side(two_runs: None, workspace: Path) -> None:
    found = json.loads(dvc("metrics", "diff", "--json"))["metrics/sample/evaluate.json"]
    assert found["sequential.A-3.hr@10"] == {"old": 0.2, "new": 0.25, "diff": pytest.approx(0.05)}
    assert "sequential.A-3.num_users" not in found  # what did not change is not told
    drawn = json.loads(dvc("plots", "diff", "--json"))["data"]
    assert set(drawn) == {"pretrain loss", "train loss", "rank curves"}
    for name, plots in drawn.items():
        assert {revision for plot in plots for revision in plot["revisions"]} == {"HEAD", "workspace"}, name
        text = json.dumps(plots)
        assert "0.25" in text, name
        assert "0.2," in text or "0.2}" in text or '"0.2"' in text, name
    for command in ("show", "diff"):
        dvc("plots", command, "-o", command)
        page = (workspace / command / "index.html").read_text()
        assert all(title in page for title in ("loss by family", "HR@k of every model and prompt")), command
        assert ("HEAD" in page) == (command == "diff")
