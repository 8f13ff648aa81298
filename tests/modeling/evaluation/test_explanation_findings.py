"""Findings on explanations: the best baseline that knows as much, collapsed output, and the state of each."""

from typing import Any

import pytest

from modeling.evaluation.explanation_findings import best_sentence_baseline, explanation_findings, explanation_scores
from modeling.evaluation.finding import Finding


def sentences(bleu: float, given: list[str], **more: Any) -> dict[str, Any]:
    block = {"given": given, "num_examples": 100, "bleu4": bleu, "distinct_sentences": 60.0, "empty": 0.0}
    return block | {"ci95": {"bleu4": [bleu - 2, bleu + 2]}} | more


def baseline(bleu: float, *, hinted: bool) -> dict[str, Any]:
    return {"hinted": hinted, "num_examples": 100, "bleu4": bleu, "ci95": {"bleu4": [bleu - 1, bleu + 1]}}


@pytest.fixture
def results() -> dict[str, Any]:
    baselines = {
        "commonest": baseline(9.0, hinted=False),
        "central": baseline(4.0, hinted=False),
        "commonest_of_feature": baseline(36.6, hinted=True),
    }
    blocks = {"C-12": sentences(43.2, ["feature", "rating"]), "C-3": sentences(20.0, ["rating"])}
    return {"explanation": blocks, "baselines": {"explanation": baselines}}


def texts(results: dict[str, Any]) -> list[str]:
    return [finding.text for finding in explanation_findings(results)]


def test_each_prompt_meets_the_baselines_that_know_as_much(results: dict[str, Any]) -> None:
    varied = "writes 60 different sentences for 100 reviews"
    with_feature = "best sentence baseline 37 by the commonest sentence of the feature"
    without = "best baseline without the feature 9 by the commonest sentence"
    assert texts(results) == [
        f"VIP5 writes explanations with BLEU-4 43 (C-12, feature and rating given); {with_feature}.",
        f"VIP5 writes explanations with BLEU-4 20 (C-3, rating given); {without}.",
        f"Explanations vary: C-12 {varied}; C-3 {varied}.",
    ]
    assert {finding.state for finding in explanation_findings(results)} == {"good"}
    assert explanation_scores(results) == (43.2, 36.6)


def test_a_prompt_with_other_reviews_meets_its_own_baselines(results: dict[str, Any]) -> None:
    results["explanation"]["C-3"]["baselines"] = {"central": baseline(5.0, hinted=False)}
    assert best_sentence_baseline(results, "C-3") == "central"


@pytest.mark.parametrize(
    ("bleu", "state", "words", "span"),
    [
        (8.0, "weak", "Weak: explanations (C-3) are not clearly closer to the reviews than", "6 to 10"),
        (5.5, "bad", "Bad: explanations (C-3) are further from the reviews than", "3.5 to 7.5"),
    ],
)
def test_a_baseline_that_is_level_or_ahead_is_named(
    results: dict[str, Any], bleu: float, state: Any, words: str, span: str
) -> None:
    results["explanation"]["C-3"] = sentences(bleu, ["rating"])
    found = explanation_findings(results)
    assert Finding(state, f"{words} the commonest sentence (BLEU-4 {span} against 8 to 10).") in found
    assert found[1].state == state


@pytest.mark.parametrize(
    ("change", "details"),
    [
        ({"distinct_sentences": 4.0}, "C-12 writes 4 different sentences for 100 reviews"),
        ({"distinct_sentences": 1.0}, "C-12 writes 1 different sentence for 100 reviews"),
        ({"empty": 30.0}, "C-12 writes 60 different sentences for 100 reviews, 30 % empty"),
    ],
)
def test_a_collapsed_prompt_is_named(results: dict[str, Any], change: dict[str, float], details: str) -> None:
    results["explanation"]["C-12"] |= change
    found = explanation_findings(results)
    assert found[0].state == "bad"
    assert found[2] == Finding("bad", f"Bad: explanations collapsed: {details}.")
    assert not any("vary" in finding.text for finding in found)


def test_the_limits_of_a_collapse_are_no_collapse(results: dict[str, Any]) -> None:
    results["explanation"]["C-12"] |= {"distinct_sentences": 5.0, "empty": 20.0}
    assert not any("collapsed" in text for text in texts(results))


def test_without_explanations_there_is_no_finding() -> None:
    assert explanation_findings({"explanation": {}, "baselines": {"explanation": {}}}) == []
    unmeasured = {"C-3": {"given": [], "num_examples": 0}}
    assert explanation_findings({"explanation": unmeasured, "baselines": {}}) == []
