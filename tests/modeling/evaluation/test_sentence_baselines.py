"""`evaluate` on the tiny world with train sentences and a prompt that names the feature word."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from features import schema
from features.runtime.stage import Context
from features.store.tables import from_rows, write_table
from modeling import evaluate, model_report
from modeling.baselines.sentences import HINTED, UNHINTED, TrainSentences
from modeling.config.evaluate import SentenceParams
from modeling.data.prompt_dataset import Batch
from modeling.evaluation import generate_explanations
from modeling.evaluation.generate_explanations import Explanations
from modeling.evaluation.sentence_baselines import blocks_by_prompt
from modeling.summary import summary_lines
from tests.modeling.evaluated import rewrite, write_evaluated
from tests.modeling.world import MADE, NUM_USERS, exit_code

QUICK: dict[str, Any] = {"num_threads": 1, "bootstrap_resamples": 50, "sasrec": None, "ridge": None}
PROMPTS = schema.prompts("test", "explanation")


def write_named(root: Path) -> Context:
    """Adds one train sentence per item, and to every C-3 prompt a C-12 prompt that names the feature word."""
    place = write_evaluated(root)
    test = pq.read_table(place.table("explanations")).to_pylist()
    train = [row | {"split": "train", "sentence": f"a colour of number {row['item_id']}"} for row in test]
    rewrite(place, schema.EXPLANATIONS, sorted([*test, *train], key=lambda row: (row["user_id"], row["sentence"])))
    rows = pq.read_table(place.table(PROMPTS.name)).to_pylist()
    named = [row | {"prompt_id": "C-12", "source": f"{row['source']} about the colour"} for row in rows]
    every = [row | {"example_id": number} for number, row in enumerate([*rows, *named])]
    given = {"C-3": ["rating"], "C-12": ["feature", "rating"]}
    write_table(place.table(PROMPTS.name), PROMPTS, from_rows(PROMPTS, every), replace(MADE, notes={"given": given}))
    return place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return write_named(tmp_path_factory.mktemp("world"))


def evaluated(place: Context, **sentences: Any) -> dict[str, Any]:
    params = evaluate.Params(**QUICK, explanations=SentenceParams(**({"max_tokens": 9} | sentences)))
    assert exit_code(evaluate, params, place) == 0
    results: dict[str, Any] = json.loads(place.metrics("evaluate.json").read_text(encoding="utf-8"))
    return results


def test_sentence_baselines_are_measured_in_the_same_run(place: Context) -> None:
    results = evaluated(place)
    blocks = results["baselines"]["explanation"]
    assert {name for name, block in blocks.items() if block["hinted"]} == set(HINTED)
    assert {name for name, block in blocks.items() if not block["hinted"]} == set(UNHINTED)
    for block in blocks.values():
        assert block["num_examples"] == NUM_USERS
        assert block["feature_match"] == 100
        assert {"bleu4", "rougeL", "feature_match"} <= set(block["ci95"])
    assert blocks["nearest_title"]["bleu4"] > blocks["commonest"]["bleu4"]
    assert not any("baselines" in block for block in results["explanation"].values())


def test_a_required_feature_is_in_every_sentence_of_its_prompt(place: Context) -> None:
    results = evaluated(place)
    assert results["explanation"]["C-12"]["feature_match"] == 100
    assert results["explanation"]["C-3"]["feature_match"] < 100
    assert evaluated(place, require_feature=False)["explanation"]["C-12"]["feature_match"] < 100


def test_collapsed_output_is_named_in_the_verdict(place: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(_model: Any, batch: Batch, *_args: Any, **_how: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
        return np.ones((len(batch), 1), np.int64)  # </s>

    monkeypatch.setattr(generate_explanations, "decode_sentences", nothing)
    details = f"writes 1 different sentence for {NUM_USERS} reviews, 100 % empty"
    assert f"Bad: explanations collapsed: C-12 {details}; C-3 {details}." in evaluated(place)["verdict"]


def test_summary_and_page_show_the_sentence_baselines(place: Context) -> None:
    lines = summary_lines(evaluated(place), place)
    start = next(number for number, line in enumerate(lines) if line.startswith("explanations, percent"))
    assert lines[start + 2].startswith("VIP5 C-12, feature given ")
    assert lines[start + 3].startswith("best baseline: the sentence of the nearest title ")
    assert exit_code(model_report, model_report.Params(num_users=2, num_sentences=5), place) == 0
    page = place.report("model.html").read_text(encoding="utf-8")
    assert "<td>baseline: a random sentence of the feature (knows the feature)</td>" in page
    assert "<td>baseline: the commonest sentence</td>" in page
    assert "5 rows of the test split, sampled by the seed and not selected." in page


def test_prompts_about_other_reviews_have_their_own_baselines() -> None:
    train = TrainSentences(sentences=["a lid"], features=["lid"], item_ids=np.array([1]))
    first, second = explained([1, 2]), explained([1, 3])
    shared, own = blocks_by_prompt({"C-3": first, "C-12": first}, train, ["Kettle"] * 3, resamples=0, seed=1)
    assert shared["commonest"]["num_examples"] == 2
    assert own == {}
    shared, own = blocks_by_prompt({"C-3": first, "C-12": second}, train, ["Kettle"] * 3, resamples=0, seed=1)
    assert own["C-12"].keys() == shared.keys()
    assert blocks_by_prompt({}, train, [], resamples=0, seed=1) == ({}, {})


def explained(users: list[int]) -> Explanations:
    ids = np.array(users, np.int64)
    words = [""] * len(users)
    return Explanations(
        rows=ids, generated=words, references=[f"the lid of {user}" for user in users], user_ids=ids, item_ids=ids,
        features=[["lid"]] * len(users), hints=["lid"] * len(users),
    )  # fmt: skip
