"""Several seeds: separate models and metrics, shared tables, and the spread of their results."""

import json
import math
from pathlib import Path

import pytest
import yaml

from modeling import evaluate, repeat
from tests.modeling.evaluated import LOOP, write_evaluated
from tests.modeling.world import BACKBONE


def test_spread_is_mean_and_sample_deviation() -> None:
    found = repeat.spread([{"A": {"hr@10": 0.2, "num_users": 9, "ci95": {}}}, {"A": {"hr@10": 0.4}, "B": {"hr@10": 1}}])
    assert found == {
        "A": {"hr@10": {"mean": 0.3, "deviation": pytest.approx(math.sqrt(0.02), abs=1e-6), "values": [0.2, 0.4]}}
    }
    assert repeat.spread([{"x": 1.0}])["x"]["deviation"] == 0.0


def test_each_seed_trains_once_and_the_results_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    place = write_evaluated(tmp_path)
    loop = {
        "schedule": {"epochs": LOOP.schedule.epochs, "max_steps": 1}, "batching": {"batch_size": 30},
        "validation": {"examples_per_family": 0}, "compute": {"num_threads": 1},
    }  # fmt: skip
    quick = {"sasrec": {"width": 8, "epochs": 1}, "prompts": ["A-3", "B-5"], "num_threads": 1, "bootstrap_resamples": 5}
    params = {
        "dataset": "tiny", "seed": 5, "backbone": dict(BACKBONE), "num_visual_tokens": 2,
        "pretrain": loop, "train": loop, "evaluate": quick,
    }  # fmt: skip
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))  # `--seeds` starts another process
    before = {path: path.stat().st_mtime_ns for path in Path("models").rglob("*") if path.is_file()}
    assert repeat.main(["--seeds", "2"]) == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert not Path("metrics/tiny/evaluate.json").exists()
    found = json.loads(Path("metrics/tiny/seeds.json").read_text(encoding="utf-8"))
    own = [
        json.loads(Path(f"work/seeds/tiny/{seed}/metrics/tiny/evaluate.json").read_text(encoding="utf-8"))
        for seed in (5, 6)
    ]
    assert found["seeds"] == [5, 6]
    values = [result["sequential"]["A-3"]["hr@5"] for result in own]
    assert found["sequential"]["A-3"]["hr@5"]["values"] == values
    assert found["sequential"]["A-3"]["hr@5"]["mean"] == pytest.approx(sum(values) / 2, abs=1e-6)
    popular = found["baselines"]["sequential"]["popularity"]["hr@10"]
    assert popular["deviation"] == 0.0  # it uses no seed
    weights = [Path(f"work/seeds/tiny/{seed}/models/tiny/pretrain/model.safetensors").read_bytes() for seed in (5, 6)]
    assert weights[0] != weights[1]
    assert Path("work/seeds/tiny/5/data/tiny/prompts").samefile("data/tiny/prompts")
    printed = capfd.readouterr().out
    assert "LEAKING sequential, 2 training seeds" in printed
    assert "VIP5 A-3" in printed
    assert place.dataset == "tiny"


def test_no_seed_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        evaluate.main(["--seeds", "0"])
    assert "at least 1" in capsys.readouterr().err
