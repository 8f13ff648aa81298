"""The README's claims on the sample, checked by a full `dvc repro`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("pipelines", "features", "modeling", "flows", "params.yaml", "dvc.yaml", ".gitignore", ".dvcignore")

pytestmark = [pytest.mark.slow, pytest.mark.dvc]


def run(folder: Path, *command: str) -> str:
    """Runs a command in `folder` with this environment first on PATH; returns its output."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        command, cwd=folder, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def pipeline_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a copy of the repository in which `dvc repro` has run once."""
    folder = tmp_path_factory.mktemp("sample")
    for name in PARTS:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        copy(ROOT / name, folder / name)
    run(folder, "git", "init", "-q")
    run(folder, "dvc", "init", "-q")
    run(folder, "dvc", "config", "core.analytics", "false")
    run(folder, "dvc", "repro")
    return folder


@pytest.fixture(scope="module")
def metrics(pipeline_run: Path) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((pipeline_run / "metrics/sample/evaluate.json").read_text())
    return loaded


def test_a_second_repro_runs_nothing(pipeline_run: Path) -> None:
    output = run(pipeline_run, "dvc", "repro")
    assert "Running stage" not in output
    assert "up to date" in output


@pytest.mark.parametrize("prompt", ["A-3", "A-9"])
@pytest.mark.parametrize("baseline", ["popularity", "item_knn", "sasrec", "ridge", "random"])
def test_sequential_hit_rate_significantly_beats_every_baseline(
    metrics: dict[str, Any], baseline: str, prompt: str
) -> None:
    """A-9 is a held-out prompt."""
    lowest = metrics["sequential"][prompt]["ci95"]["hr@10"][0]
    assert lowest > metrics["baselines"]["sequential"][baseline]["ci95"]["hr@10"][1]


def test_photos_are_worth_more_than_noise(metrics: dict[str, Any]) -> None:
    _, low, _ = metrics["sequential"]["A-3"]["differences"]["without_photos"]["hr@10"]
    assert low > 0.05


def test_direct_with_history_lies_above_popularity(metrics: dict[str, Any]) -> None:
    lowest = metrics["direct"]["B-5:history"]["ci95"]["hr@10"][0]
    assert lowest > metrics["baselines"]["direct"]["popularity"]["ci95"]["hr@10"][1]


def test_the_numbering_does_not_leak(metrics: dict[str, Any]) -> None:
    assert metrics["leakage"]["leaking"] is False
    assert metrics["baselines"]["sequential"]["number_rule"]["hr@10"] < 0.08
