"""The stage `evaluate` and its outputs, on a tiny world with untrained models."""

import csv
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml

from features import schema
from features.errors import ModelError, ParamsError, TableError
from features.runtime.stage import Context
from features.store.tables import read_table
from modeling import evaluate, model_report, summary
from modeling.config.evaluate import SentenceParams
from modeling.config.sasrec import SasRecParams
from modeling.decoding.constrained_search import score_items
from modeling.evaluation.inputs import load, prompt_key, rows_by_prompt, select_ablations
from modeling.evaluation.rank_prompts import rank_prompt
from tests.modeling.evaluated import rewrite, write_evaluated
from tests.modeling.world import NUM_ITEMS, NUM_USERS

QUICK: dict[str, Any] = {
    "num_threads": 1, "explanations": SentenceParams(max_tokens=4), "bootstrap_resamples": 50,
    "sasrec": SasRecParams(width=8, epochs=3, patience=3),
}  # fmt: skip
COUNTING = {"random", "popularity", "item_knn", "recent_popularity"}
CONTENT = {"title_bm25", "title_embedding", "photo_embedding"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Context:
    return write_evaluated(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def evaluated(world: Context) -> tuple[Context, dict[str, Any]]:
    evaluate.run(evaluate.Params(**QUICK), world)
    return world, metrics_of(world)


@pytest.fixture
def place(world: Context, tmp_path: Path) -> Context:
    """A copy, not yet evaluated, that a test may change."""
    shutil.copytree(world.root, tmp_path / "copy", ignore=shutil.ignore_patterns("metrics", "predictions"))
    return replace(world, root=tmp_path / "copy")


def metrics_of(place: Context) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(place.metrics("evaluate.json").read_text(encoding="utf-8"))
    return loaded


def test_the_metrics_file_has_the_agreed_shape(evaluated: tuple[Context, dict[str, Any]]) -> None:
    _, results = evaluated
    block = results["sequential"]["A-3"]
    assert {"hr@1", "hr@5", "ndcg@5", "mrr@5", "hr@10", "ndcg@10", "mrr@10", "num_users", "ci95"} <= set(block)
    assert set(block["ci95"]) == {"hr@1", "hr@5", "ndcg@5", "mrr@5", "hr@10", "ndcg@10", "mrr@10"}
    assert block["num_users"] == NUM_USERS
    baselines = COUNTING | CONTENT | {"sasrec", "ridge"}
    assert set(block["differences"]) == baselines | {"number_rule", "without_photos", "backbone"}
    assert len(block["differences"]["popularity"]["hr@10"]) == 3
    assert set(results["direct"]) == {"B-5"}
    assert results["explanation"]["C-3"]["given"] == results["backbone"]["explanation"]["C-3"]["given"] == ["rating"]
    assert {"bleu4", "rouge1", "rouge2", "rougeL", "feature_match"} <= set(results["explanation"]["C-3"])
    assert set(results["baselines"]["sequential"]) == baselines | {"number_rule"}
    for task in ("direct", "direct_popular", "direct_whole"):
        assert set(results["baselines"][task]) == baselines
    assert set(results["backbone"]) == {"sequential", "direct", "explanation"}
    assert set(results["sequential_without_photos"]) == {"A-3"}


def test_a_test_split_that_was_trained_on_is_called_leaking(evaluated: tuple[Context, dict[str, Any]]) -> None:
    leakage = evaluated[1]["leakage"]
    assert leakage["leaking"]
    assert leakage["numbers_leak"]
    assert leakage["test_pairs_in_train_targets"] == 1.0
    assert leakage["test_pairs_in_train_photos"] == 1.0
    assert leakage["test_prompts_in_train"] == 3 * NUM_USERS
    assert leakage["users_out_of_time_order"] == 0
    assert leakage["numbering"] == "random"


def test_predictions_are_unseen_items_once_each_best_first(evaluated: tuple[Context, dict[str, Any]]) -> None:
    place = evaluated[0]
    rows = read_table(place.table("predictions"), schema.PREDICTIONS).to_pylist()
    prompts = pq.read_table(place.table("prompts/test/sequential")).to_pylist()
    for prompt in prompts:
        own = [row for row in rows if row["user_id"] == prompt["user_id"] and row["prompt_id"] == "A-3"]
        items = [row["item_id"] for row in own]
        assert sorted(items) == sorted(set(range(1, NUM_ITEMS + 1)) - set(prompt["image_item_ids"]))
        assert [row["rank"] for row in own] == list(range(1, len(own) + 1))
        assert [row["score"] for row in own] == sorted((row["score"] for row in own), reverse=True)
    for prompt in pq.read_table(place.table("prompts/test/direct")).to_pylist():
        items = [r["item_id"] for r in rows if r["user_id"] == prompt["user_id"] and r["prompt_id"] == "B-5"]
        assert sorted(items) == prompt["candidate_item_ids"]


def test_predictions_give_the_metrics_again(evaluated: tuple[Context, dict[str, Any]]) -> None:
    place, results = evaluated
    targets = {
        row["user_id"]: row["target_item_id"] for row in pq.read_table(place.table("prompts/test/direct")).to_pylist()
    }
    rows = read_table(place.table("predictions"), schema.PREDICTIONS).to_pylist()
    hits = [r["rank"] for r in rows if r["prompt_id"] == "B-5" and r["item_id"] == targets[r["user_id"]]]
    assert results["direct"]["B-5"]["hr@1"] == pytest.approx(np.mean([rank == 1 for rank in hits]), abs=1e-6)
    assert results["direct"]["B-5"]["mrr@10"] == pytest.approx(np.mean([1 / rank for rank in hits]), abs=1e-6)


def test_hit_curves_rise_with_k(evaluated: tuple[Context, dict[str, Any]]) -> None:
    with evaluated[0].plots("ranks.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    own = ("sequential", "VIP5 (leaking run)")
    curve = [float(r["hit_rate"]) for r in rows if (r["family"], r["model"]) == own]
    assert curve == sorted(curve)
    assert curve[-1] == 1.0
    models = {"VIP5", "without_photos", "backbone", "popularity", "number_rule", "sasrec", "title_bm25"}
    assert {row["model"] for row in rows} >= {f"{name} (leaking run)" for name in models}


def test_every_explanation_row_has_a_sentence_and_a_reference(evaluated: tuple[Context, dict[str, Any]]) -> None:
    rows = read_table(evaluated[0].table("explanations_generated"), schema.GENERATED).to_pylist()
    assert len(rows) == NUM_USERS
    for row in rows:
        assert row["reference"] == f"the colour of number {row['item_id']} is good"


def test_a_second_run_writes_the_same_bytes(evaluated: tuple[Context, dict[str, Any]], place: Context) -> None:
    evaluate.run(evaluate.Params(**QUICK), place)
    for name in ("predictions/part-00000.parquet", "explanations_generated/part-00000.parquet"):
        assert place.table(name).read_bytes() == evaluated[0].table(name).read_bytes()
    assert place.metrics("evaluate.json").read_bytes() == evaluated[0].metrics("evaluate.json").read_bytes()


def test_the_run_ends_with_whether_anything_leaks_and_why(place: Context, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="vip5"):
        evaluate.run(evaluate.Params(**QUICK, max_users=5, prompts=("A-3",)), place)
    results = metrics_of(place)
    assert caplog.messages[-1] == f"evaluate: Leaks: {'; '.join(results['leakage']['reasons'])}."
    assert "counting up from the largest number of the history finds" in caplog.messages[-1]
    assert results["sequential"]["A-3"]["num_users"] == 5
    assert results["direct"] == {}
    assert results["explanation"] == {}


def test_a_missing_numbering_note_is_refused(place: Context) -> None:
    path = place.table("sequences/items") / "_manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(manifest | {"notes": {}}), encoding="utf-8")
    with pytest.raises(TableError, match="no note numbering in sequences/items"):
        evaluate.run(evaluate.Params(**QUICK), place)


def test_no_explanations_and_no_timestamps_are_no_failure(tmp_path: Path) -> None:
    place = write_evaluated(tmp_path, timestamps=False)
    rewrite(place, schema.EXPLANATIONS, [])
    rewrite(place, schema.prompts("test", "explanation"), [])
    evaluate.run(evaluate.Params(**QUICK), place)
    results = metrics_of(place)
    assert results["explanation"] == {}
    assert "recent_popularity" not in results["baselines"]["sequential"]
    assert results["leakage"]["users_out_of_time_order"] is None
    assert pq.read_metadata(place.table("explanations_generated/part-00000.parquet")).num_rows == 0
    assert model_report.run(model_report.Params(num_users=2), place) == 2


def test_unconstrained_decoding_counts_what_is_no_item(place: Context) -> None:
    evaluate.run(evaluate.Params(**QUICK, decoding="unconstrained", beam=3, prompts=("A-3",)), place)
    strings = metrics_of(place)["sequential"]["A-3"]["strings"]
    assert set(strings) == {"invalid_share", "repeated_share", "seen_share"}
    assert strings["invalid_share"] > 0


def test_bfloat16_ranks_and_writes_like_float32(place: Context, evaluated: tuple[Context, dict[str, Any]]) -> None:
    evaluate.run(evaluate.Params(**(QUICK | {"sasrec": None}), dtype="bfloat16"), place)
    scores = {}
    for name, where in (("bfloat16", place), ("float32", evaluated[0])):
        rows = read_table(where.table("predictions"), schema.PREDICTIONS).to_pylist()
        scores[name] = {(row["prompt_id"], row["user_id"], row["item_id"]): row["score"] for row in rows}
    assert scores["bfloat16"].keys() == scores["float32"].keys()
    gaps = [abs(scores["bfloat16"][key] - score) for key, score in scores["float32"].items()]
    assert 0 < max(gaps) < 0.1
    assert metrics_of(place)["sequential"]["A-3"]["num_users"] == NUM_USERS


def test_a_direct_prompt_without_a_list_has_three_candidate_sets(world: Context) -> None:
    params = evaluate.Params(device="cpu", batch_size=7, tokens_per_batch=2000)
    models, inputs = load(params, world)
    model, corpus = models[0].model, models[0].dataset
    rows = rows_by_prompt(corpus, 1, None, ("B-5",))["B-5"]
    found = rank_prompt(
        model, corpus, rows, catalogue=inputs.catalogue, histories=inputs.histories, params=params, label="",
        popular=inputs.popular,
    )  # fmt: skip
    everything = np.tile(np.arange(1, NUM_ITEMS + 1), (len(rows), 1))
    scores = score_items(model, corpus.batch(rows), inputs.catalogue.tree, everything)
    users, own = found.user_ids, found.targets - 1
    for name, allowed in (
        ("whole", ~inputs.histories.seen(users, NUM_ITEMS)),
        ("popular", (inputs.popular.padded(users, fill=0)[:, :, None] == everything[:, None]).any(1)),
        ("uniform", (found.candidates[:, :, None] == everything[:, None]).any(1)),  # type: ignore[index]
    ):
        better = (scores > scores[np.arange(len(rows)), own][:, None]) & allowed
        ranks = found.ranks if name == "uniform" else found.other_candidate_sets[name]
        assert ranks.tolist() == (1 + better.sum(1)).tolist(), name
    assert set(found.other_candidate_sets) == {"popular", "whole"}


def test_a_model_of_another_dataset_is_refused(place: Context) -> None:
    other = replace(place, dataset="other")
    shutil.copytree(place.root / "data" / "tiny", place.root / "data" / "other")
    shutil.copytree(place.root / "models" / "tiny", place.root / "models" / "other")
    with pytest.raises(ModelError, match="dataset 'tiny'"):
        evaluate.run(evaluate.Params(**QUICK), other)
    assert not other.metrics("evaluate.json").exists()


def test_embeddings_of_another_width_are_refused(place: Context) -> None:
    vectors = schema.embeddings(3)
    rows = [
        {"item_id": i, "embedding": [0.0] * 3, "status": "missing", "sha256": None} for i in range(1, NUM_ITEMS + 1)
    ]
    rewrite(place, vectors, rows)
    with pytest.raises(ModelError, match="image embeddings of width 8"):
        evaluate.run(evaluate.Params(**QUICK), place)


def test_candidates_that_are_not_the_fixed_ones_are_refused(place: Context) -> None:
    rows = pq.read_table(place.table("candidates")).to_pylist()
    rows[4]["item_ids"] = rows[4]["item_ids"][:-1]
    rewrite(place, schema.CANDIDATES, rows)
    with pytest.raises(TableError, match=f"1 rows of B-5 with other candidates, such as user {rows[4]['user_id']}"):
        evaluate.run(evaluate.Params(**QUICK), place)
    assert not place.metrics("evaluate.json").exists()


def test_ablations_without_a_common_prompt_are_refused() -> None:
    assert select_ablations(("A-3", "B-5"), ("B-5", "C-3")) == ("B-5",)
    assert select_ablations((), ("B-5",)) == ("B-5",)
    assert select_ablations(("A-3",), ()) == ("A-3",)
    with pytest.raises(ParamsError, match="ablation_prompts"):
        select_ablations(("A-3",), ("B-5",))


@pytest.mark.parametrize("wrong", [{"beam": 0}, {"max_users": 0}, {"recent_share": 0.0}, {"bootstrap_resamples": -1}])
def test_parameters_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        evaluate.Params(**wrong)


def test_the_published_variant_has_the_bare_key() -> None:
    assert prompt_key("B-5", "published") == "B-5"
    assert prompt_key("B-5", "history") == "B-5:history"


def test_the_summary_prints_models_baselines_and_reports(
    evaluated: tuple[Context, dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    place, results = evaluated
    monkeypatch.chdir(place.root)
    params = place.root / "params.yaml"
    params.write_text(yaml.safe_dump({"dataset": "tiny"}), encoding="utf-8")
    assert summary.main(["--params", str(params)]) == 0
    printed = capsys.readouterr().out
    lines = printed.splitlines()
    assert lines[2 : 2 + len(results["verdict"])] == results["verdict"]
    written = json.loads(place.metrics("summary.json").read_text(encoding="utf-8"))
    assert next(iter(written)) == "verdict"
    assert written["verdict"] == results["verdict"]
    assert (written["leaks"], written["next_item_hr10"]) == (1, results["sequential"]["A-3"]["hr@10"])
    rule = next(number for number, line in enumerate(lines) if line.startswith("---"))
    table = lines[
        rule + 1 : next(number for number, line in enumerate(lines) if line.startswith("(\N{PLUS-MINUS SIGN}"))
    ]
    assert 3 <= len(table) <= 8
    listed = results["num_candidates"]["direct"]
    assert lines[rule - 1].split("  ")[-1] == f"item first of {listed} candidates"  # all are among the first ten
    assert ".venv/bin/python -m modeling.recommend --user U1" in lines
    assert lines[-1].startswith(".venv/bin/python -m modeling.recommend --history B")
    assert lines[-1].endswith(" --page recommendations.html")
    params.write_text(yaml.safe_dump({"dataset": "absent"}), encoding="utf-8")
    assert summary.main(["--params", str(params)]) == 3


def test_help_answers_without_loading_torch() -> None:
    import subprocess
    import sys

    code = (
        "import sys, modeling.evaluate, modeling.model_report, modeling.summary; "
        "assert not {'torch', 'transformers', 'sacrebleu'} & set(sys.modules), 'heavy import'"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
