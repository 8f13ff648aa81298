"""A dump in which users paste one review under several items: the rankings are not reported as leaking."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from features.runtime.params import load_yaml, merge
from flows.pipeline.stage_graph import modules

ROOT = Path(__file__).parents[1]
RUN = """\
import importlib, sys
for name in sys.argv[2:]:
    code = importlib.import_module(name).main(["--params", sys.argv[1]])
    if code:
        sys.exit(code)
"""
SMALL: dict[str, Any] = {
    "dataset": "pasted", "num_visual_tokens": 1,
    "datasets": {
        "pasted": {
            "format": "amazon2023", "reviews": ["reviews.jsonl.gz"], "metadata": ["meta.jsonl.gz"], "photos": None,
        }
    },
    "candidates": {"num_negatives": 18}, "prompts": {"num_candidates": 10},
    "pretrain": {"schedule": {"max_steps": 4}}, "train": {"schedule": {"max_steps": 4}},
    "evaluate": {"bootstrap_resamples": 50, "sasrec": {"epochs": 1}},
}  # fmt: skip


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder in which the whole pipeline ran on the dump, with four training steps."""
    given = Path(os.environ.get("VIP5_REAL_DATA", ROOT / "../shared/data")).resolve()
    case = given.parent / "cases" / "pasted_reviews"
    if not case.is_dir():
        pytest.skip(f"no {case}; set VIP5_REAL_DATA to the folder beside `cases`")
    folder = tmp_path_factory.mktemp("pasted")
    params = load_yaml(ROOT / "params.yaml")
    own = params | {"datasets": params["datasets"] | SMALL["datasets"]}
    (folder / "params.yaml").write_text(yaml.safe_dump(merge(own, SMALL)), encoding="utf-8")
    (folder / "data/raw").mkdir(parents=True)
    (folder / "data/raw/pasted").symlink_to(case, target_is_directory=True)
    names = [
        name for stage, name in modules(load_yaml(ROOT / "dvc.yaml")).items() if stage not in {"sample", "data_report"}
    ]
    command = [sys.executable, "-c", RUN, "params.yaml", *names]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


def test_pasted_reviews_leak_no_ranking_and_are_counted(evaluated: Path) -> None:
    results = json.loads((evaluated / "metrics/pasted/evaluate.json").read_text(encoding="utf-8"))
    leakage = results["leakage"]
    assert [leakage[family]["leaks"] for family in ("sequential", "direct", "explanation")] == [False, False, False]
    assert (leakage["leaking"], leakage["reasons"]) == (False, [])
    copied = leakage["explanation"]["copied_prompts"]
    assert copied > 0
    assert copied == leakage["test_prompts_in_train"]
    assert leakage["explanation"]["pairs_in_train"] == 0
    (line,) = (line for line in results["verdict"] if line.startswith("Leaks"))
    assert line.startswith(f"Leaks: none found (explanation: {copied} of {leakage['explanation']['test_prompts']} ")


def test_counts_of_candidates_are_those_of_the_dump(evaluated: Path) -> None:
    results = json.loads((evaluated / "metrics/pasted/evaluate.json").read_text(encoding="utf-8"))
    assert results["num_candidates"] == {"direct": 19, "direct_popular": 19, "direct_whole": results["num_items"]}
    page = (evaluated / "reports/pasted/model.html").read_text(encoding="utf-8")
    assert "Which of 19 candidates" in page
    assert "100 candidates" not in page
    assert any("19 candidates" in line for line in results["verdict"])
