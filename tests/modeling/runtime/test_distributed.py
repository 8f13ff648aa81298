"""Data-parallel training: two processes under torchrun take the same steps as one."""

import os
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import yaml
from safetensors.torch import load_file

from modeling import pretrain, train
from modeling.config.model import AdapterParams
from modeling.config.training import Batching, Compute, LoopParams, Objective, Optimizer, Schedule, Validation
from tests.modeling.world import curve, write_world

ROOT = Path(__file__).resolve().parents[3]
LOOP = LoopParams(
    schedule=Schedule(epochs=1, max_steps=5),
    batching=Batching(batch_size=21),
    optimizer=Optimizer(learning_rate=0.01),
    objective=Objective(dropout=0.0, loss_reduction="examples"),
    validation=Validation(every_steps=2, examples_per_family=5),
    compute=Compute(num_threads=1, device="cpu"),
)


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    place = write_world(tmp_path)
    pretrain.run(
        pretrain.Params(schedule=Schedule(epochs=1, max_steps=1), validation=Validation(examples_per_family=0)),
        place,
    )
    params = train.Params(adapters=AdapterParams(reduction=4, init="linear"), **vars(LOOP))
    train.run(params, place)
    alone, losses = load_file(place.model("train") / "trained.safetensors"), curve(place, "train")
    place.plots("train.csv").unlink()

    whole = {"dataset": place.dataset, "seed": place.seed, "train": asdict(params), **place.shared}
    (tmp_path / "params.yaml").write_text(yaml.safe_dump(whole), encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(  # noqa: PLW1510  # the assertion shows what was said
        [*command, "-m", "modeling.train"], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]
    together = load_file(place.model("train") / "trained.safetensors")
    assert together.keys() == alone.keys()
    for name, tensor in alone.items():
        np.testing.assert_allclose(together[name].numpy(), tensor.numpy(), atol=2e-5, err_msg=name)
    for one, two in zip(losses, curve(place, "train"), strict=True):
        for column in ("loss", "loss_sequential", "loss_direct", "loss_explanation", "valid_loss"):
            assert float(two[column]) == pytest.approx(float(one[column]), abs=1e-5)
