"""Metrics as the reference implementation computes them: values by hand, and an evaluation that reports them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from features import schema
from features.errors import ParamsError
from features.runtime.stage import Context
from features.store.tables import read_table
from modeling import evaluate, model_report
from modeling.config.evaluate import SentenceParams
from modeling.metrics.reference_implementation import paper_ranking_block, paper_text_block
from tests.modeling.evaluated import write_evaluated
from tests.modeling.world import NUM_USERS

PARAMS = evaluate.Params(
    num_threads=1,
    explanations=SentenceParams(max_tokens=4),
    bootstrap_resamples=0,
    sasrec=None,
    ridge=None,
    beam=4,
    paper_metrics=True,
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Context:
    """A world whose items are written as numbers."""
    return write_evaluated(tmp_path_factory.mktemp("numbers"), item="{}")


def metrics_of(place: Context) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(place.metrics("evaluate.json").read_text(encoding="utf-8"))
    return loaded


def test_a_repeated_number_is_ranked_at_its_last_position() -> None:
    block = paper_ranking_block([["12", "7", "12"], ["no", "number"]], [12, 7], (1, 5))
    assert (block["hr@1"], block["hr@5"], block["mrr@5"], block["precision@5"]) == (0.0, 0.5, 0.25, 0.25)
    assert (block["num_users"], block["num_users_without_number"]) == (2, 1)


def test_without_any_number_all_ranking_metrics_are_0() -> None:
    block = paper_ranking_block([["x"]], [1], (5,))
    assert block["ndcg@5"] == block["hr@5"] == 0.0
    assert paper_ranking_block([], [], (5,))["hr@5"] == 0.0


def test_bleu_counts_characters_and_rouge_distinct_words() -> None:
    block = paper_text_block(["a good quality toy for kids"], ["an overall good brand with some problems"])
    assert block["bleu1"] == pytest.approx(43.5, abs=0.05)
    assert block["bleu4"] == pytest.approx(15.3, abs=0.05)
    assert block["rouge_1/f_score"] == pytest.approx(200 / 13)
    assert paper_text_block([], []) == {"num_examples": 0}


def test_an_evaluation_reports_the_reference_metrics(world: Context) -> None:
    evaluate.run(replace(PARAMS, decoding="unconstrained"), world)
    results = metrics_of(world)
    block = results["reference_implementation"]
    assert {family: set(prompts) for family, prompts in block.items()} == {
        "sequential": {"A-3"}, "direct": {"B-5"}, "explanation": {"C-3"},
    }  # fmt: skip
    assert {"hr@5", "ndcg@10", "mrr@10"} <= set(block["sequential"]["A-3"])
    assert "hr@1" not in block["sequential"]["A-3"]
    assert {"hr@1", "hr@5", "hr@10"} <= set(block["direct"]["B-5"])
    assert block["direct"]["B-5"]["num_users"] == NUM_USERS
    assert set(results["sequential"]["A-3"]["strings"]) == {"invalid_share", "repeated_share", "seen_share"}
    rows = read_table(world.table("explanations_generated"), schema.GENERATED)
    written = paper_text_block(rows["generated"].to_pylist(), rows["reference"].to_pylist())
    assert block["explanation"]["C-3"] == pytest.approx(written, abs=1e-6)


def test_constrained_lists_give_the_same_hits_by_both_definitions(world: Context) -> None:
    evaluate.run(PARAMS, world)
    results = metrics_of(world)
    for family, key in (("sequential", "A-3"), ("direct", "B-5")):
        for name in ("hr@5", "hr@10", "ndcg@10", "mrr@10"):
            reference = results["reference_implementation"][family][key][name]
            assert reference == pytest.approx(results[family][key][name], abs=1e-6), (family, name)


def test_the_model_page_has_a_block_of_reference_metrics(world: Context) -> None:
    title = "As the reference implementation computes it"
    for params, shown in ((PARAMS, True), (replace(PARAMS, paper_metrics=False), False)):
        evaluate.run(params, world)
        assert ("reference_implementation" in metrics_of(world)) == shown
        model_report.run(model_report.Params(num_users=0), world)
        assert (title in world.report("model.html").read_text(encoding="utf-8")) == shown


def test_identifiers_that_are_no_numbers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match="paper_metrics with identifiers such as '<item_1>'"):
        evaluate.run(PARAMS, write_evaluated(tmp_path))
