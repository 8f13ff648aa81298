"""RecBole, in an environment of its own, loads an export; its popularity baseline has our figures.

`VIP5_RECBOLE_PYTHON` names the Python of an environment with recbole 1.2, numpy < 1.26, pandas < 2.2 and
kmeans-pytorch.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
import yaml

from features import schema
from features.runtime.profiles import merged
from features.store.tables import read_table
from flows import export
from modeling.baselines.counting import train_counts
from modeling.data.user_histories import known_before_test
from pipelines import records, sequences

NAME = "musical_instruments"
ASK_RECBOLE = """\
import json, sys
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed
name, files = sys.argv[1], json.loads(sys.argv[2])
changes = {"use_gpu": False, "show_progress": False, "state": "ERROR", "benchmark_filename": files,
           "train_batch_size": 1, "train_neg_sample_args": None}
config = Config(model="Pop", dataset=name, config_file_list=[f"{name}.yaml"], config_dict=changes)
init_seed(config["seed"], config["reproducibility"])
dataset = create_dataset(config)
train, valid, test = data_preparation(config, dataset)
model = get_model("Pop")(config, train._dataset)
trainer = get_trainer(config["MODEL_TYPE"], "Pop")(config, model)
trainer.fit(train, valid, saved=False, show_progress=False)
figures = trainer.evaluate(test, load_best_model=False, show_progress=False)
counts = {"users": dataset.user_num - 1, "items": dataset.item_num - 1, "train": len(train._dataset)}
print(json.dumps(counts | {key: float(value) for key, value in figures.items()}))
"""
"""Pop sets the count of an item once a batch and counts sampled negatives; batches of one without negatives count."""


@pytest.fixture(scope="module")
def recbole() -> str:
    """Returns the Python that has RecBole, or skips the test."""
    python = os.environ.get("VIP5_RECBOLE_PYTHON")
    if not python:
        pytest.skip("no RecBole: set VIP5_RECBOLE_PYTHON to the Python of an environment that has it")
    return python


@pytest.fixture(scope="module")
def exported(root: Path, real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with the tables of Musical Instruments and their export."""
    folder = tmp_path_factory.mktemp("recbole")
    raw = folder / "data/raw" / NAME
    raw.parent.mkdir(parents=True)
    raw.symlink_to(real_data / "amazon2014" / NAME)
    (folder / "params.yaml").write_text(yaml.safe_dump(merged([NAME], root)), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert [stage.main([]) for stage in (records, sequences)] == [0, 0]
        assert export.main([NAME, "--to", "recbole", "--out", "out"]) == 0
    return folder


def bounds(folder: Path, k: int) -> tuple[float, float]:
    """Returns HR@k of popularity with every tie lost, and with every tie won."""
    tables = folder / "data" / NAME / "sequences"
    histories = known_before_test(read_table(tables / "interactions", schema.INTERACTIONS))
    num_items = read_table(tables / "items", schema.CATALOGUE).num_rows
    users = np.flatnonzero(histories.targets)
    scores = np.repeat(train_counts(histories, num_items)[None], len(users), axis=0)
    target = scores[np.arange(len(users)), histories.targets[users] - 1][:, None]
    scores[histories.seen(users, num_items)] = -1
    better, as_good = (scores > target).sum(1), (scores >= target).sum(1)
    return float((as_good <= k).mean()), float((better < k).mean())


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("files", [None, ["train", "valid", "test"]], ids=["leave_one_out", "split_files"])
def test_popularity_of_recbole_is_ours(recbole: str, exported: Path, files: list[str] | None) -> None:
    command = [recbole, "-c", ASK_RECBOLE, NAME, json.dumps(files)]
    done = subprocess.run(command, cwd=exported / "out", capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["users"], found["items"], found["train"]) == (1429, 900, 7403)
    for k in (1, 5, 10):
        worst, best = bounds(exported, k)
        assert worst - 5e-5 <= found[f"hit@{k}"] <= best + 5e-5, (k, worst, best)
        assert best - worst < 0.02, "ties leave the figure open"
