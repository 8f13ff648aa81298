"""Ranking metrics: values by hand, laws, and the reference definitions against their golden values."""

import json
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from modeling.metrics.ranking import by_user, hits_by_depth, ranks_of
from modeling.metrics.reference_implementation import (
    paper_average_precision,
    paper_dcg,
    paper_mean,
    paper_ndcg,
    paper_reciprocal_rank,
    paper_scores,
    paper_user,
)
from tests.modeling.golden import GOLDEN, need


def test_values_by_hand() -> None:
    values = by_user(np.array([1, 2, 5, 6, 0]), [5])
    assert values["hr@5"].tolist() == [1, 1, 1, 0, 0]
    assert values["mrr@5"].tolist() == [1, 0.5, 0.2, 0, 0]
    np.testing.assert_allclose(values["ndcg@5"], [1, 1 / math.log2(3), 1 / math.log2(6), 0, 0])


def test_a_second_library_finds_the_same_metrics() -> None:
    """Scores of 40 users and 30 items, all different, one item held out: torchmetrics and ranks, user by user."""
    from torchmetrics.functional import retrieval

    generator = np.random.default_rng(7)
    scores = generator.permuted(np.tile(np.arange(30), (40, 1)), axis=1)
    targets = generator.integers(1, 31, 40)
    top = np.argsort(-scores, axis=1)[:, :12] + 1
    ranks = ranks_of(top, targets)
    assert 0 < (ranks == 0).sum() < 40
    for k in (1, 5, 10):
        values = by_user(ranks, [k])
        for user in range(40):
            predicted = torch.from_numpy(scores[user].astype(np.float32))
            relevant = torch.arange(1, 31) == int(targets[user])
            for name, theirs in (
                ("hr", retrieval.retrieval_hit_rate),
                ("ndcg", retrieval.retrieval_normalized_dcg),
                ("mrr", retrieval.retrieval_reciprocal_rank),
            ):
                expected = float(theirs(predicted, relevant, top_k=k))
                assert values[f"{name}@{k}"][user] == pytest.approx(expected, abs=1e-6), (name, k, user)


def test_ranks_are_places_in_the_list() -> None:
    top = np.array([[4, 2, 9], [3, 1, 0], [7, 0, 0]])
    assert ranks_of(top, np.array([9, 3, 2])).tolist() == [3, 1, 0]


@given(st.lists(st.integers(0, 40), min_size=1, max_size=50), st.integers(1, 20))
def test_metrics_lie_in_order_between_0_and_1(ranks: list[int], k: int) -> None:
    values = by_user(np.array(ranks), [k, k + 1])
    for name in ("hr", "ndcg", "mrr"):
        assert (values[f"{name}@{k}"] <= values[f"{name}@{k + 1}"]).all()
        assert ((values[f"{name}@{k}"] >= 0) & (values[f"{name}@{k}"] <= 1)).all()
    assert (values[f"mrr@{k}"] <= values[f"ndcg@{k}"]).all()
    assert (values[f"ndcg@{k}"] <= values[f"hr@{k}"]).all()


@given(st.lists(st.integers(0, 12), min_size=1, max_size=40))
def test_the_hit_curve_is_the_hit_rate_at_every_depth(ranks: list[int]) -> None:
    curve = hits_by_depth(np.array(ranks), 8)
    assert curve.tolist() == pytest.approx([by_user(np.array(ranks), [k])[f"hr@{k}"].mean() for k in range(1, 9)])


def test_a_repeated_string_keeps_its_last_rank_in_the_original() -> None:
    assert paper_scores(["5", "05", "yes", "-7", " 9 "]) == {5: -2, -7: -4, 9: -5}


def test_the_paper_agrees_with_ours_for_one_relevant_item() -> None:
    for rank in range(1, 11):
        relevance = [float(place == rank) for place in range(1, 11)]
        ours = {name: values[0] for name, values in by_user(np.array([rank]), [10]).items()}
        assert paper_ndcg(relevance, 10) == pytest.approx(ours["ndcg@10"])
        assert paper_reciprocal_rank(relevance) == pytest.approx(ours["mrr@10"])


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(need(GOLDEN / "metrics_share.json").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.real
def test_primitives_are_the_originals(golden: dict[str, Any]) -> None:
    for case in golden["primitives"]:
        rel, k = case["rel"], case["k"]
        assert paper_dcg(rel, k) == pytest.approx(case["dcg1"])
        assert paper_dcg(rel, k, variant=0) == pytest.approx(case["dcg0"])
        assert paper_ndcg(rel, k) == pytest.approx(case["ndcg1"])
        assert paper_ndcg(rel, k, variant=0) == pytest.approx(case["ndcg0"])
        assert paper_average_precision(rel) == pytest.approx(case["ap"])
    means = golden["mrr"]
    assert np.mean([paper_reciprocal_rank(rel) for rel in means["rs"]]) == pytest.approx(means["value"])
    assert np.mean([paper_average_precision(rel) for rel in means["rs"]]) == pytest.approx(means["map"])


@pytest.mark.real
def test_one_users_numbers_are_the_originals(golden: dict[str, Any]) -> None:
    for case in golden["evaluate_once"]:
        found, expected = paper_user(case["preds"], case["gt"]), case["out"]
        for ours, theirs in (("ndcg", "ndcg@k"), ("recall", "recall@k"), ("precision", "precision@k"), ("map", "ap")):
            assert found[ours] == pytest.approx(expected[theirs]), (ours, case)


@pytest.mark.real
def test_whole_evaluations_are_the_originals(golden: dict[str, Any]) -> None:
    checked = 0
    for case in golden["evaluate_all"]:
        if case["name"] == "ties":  # the reference implementation shuffles equal scores
            continue
        scores = {
            user: paper_scores(info["gen_item_list"]) for user, info in enumerate(case["all_info"])
        }  # fmt: skip
        assert {str(user): {str(item): score for item, score in own.items()} for user, own in scores.items()} == case[
            "ui_scores"
        ]
        relevant = {user: [int(info["target_item"])] for user, info in enumerate(case["all_info"])}
        if "error" in case["out"]:
            with pytest.raises(ValueError, match="without any valid prediction"):
                paper_mean(scores, relevant, case["topk"])
            continue
        assert paper_mean(scores, relevant, case["topk"]) == pytest.approx(case["out"]), case["name"]
        checked += 1
    assert checked >= 8
