"""`dvc metrics diff` and `dvc plots diff` between a committed run and the workspace, as this pipeline declares them."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from features.runtime.params import load_yaml
from modeling.reporting.curve_plots import FILES

WRITE = """\
import json, pathlib, sys, yaml
hits = yaml.safe_load(open("params.yaml"))["hits"]
for path in map(pathlib.Path, sys.argv[1].split(",")):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".json":
        numbers = {"verdict": [f"{hits} of the users"], "next_item_hr10": hits, "leaks": 0, "cold_items_hr10": None}
        path.write_text(json.dumps(numbers))
    else:
        path.write_text(f'<svg xmlns="http://www.w3.org/2000/svg"><text>{hits}</text></svg>')
"""


def line_of(root: Path) -> dict[str, Any]:
    """Our dvc.yaml with only what metrics and plots are about: the same files, made in a moment by one script."""
    ours = load_yaml(root / "dvc.yaml")
    stages = {}
    for name, stage in ours["stages"].items():
        outs = [out for out in stage["outs"] if out.startswith(("metrics/", "plots/"))]
        if outs:
            cmd = f"python write.py {','.join(outs)}"
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
    found = json.loads(dvc("metrics", "diff", "--json"))["metrics/sample/summary.json"]
    assert found == {"next_item_hr10": {"old": 0.2, "new": 0.25, "diff": pytest.approx(0.05)}}
    assert dvc("metrics", "show").splitlines()[0].split() == ["Path", "leaks", "next_item_hr10"]  # no verdict, no null
    drawn = json.loads(dvc("plots", "diff", "--json"))["data"]
    assert {Path(name).name for name in drawn} == set(FILES)
    for name, plots in drawn.items():
        assert {revision for plot in plots for revision in plot["revisions"]} == {"HEAD", "workspace"}, name
    for command, revisions in (("show", ["workspace"]), ("diff", ["HEAD", "workspace"])):
        dvc("plots", command, "-o", command)
        page = (workspace / command / "index.html").read_text()
        assert "http" not in page
        for name, revision in itertools.product(FILES, revisions):
            assert f"{revision}_plots_sample_{name}" in page
