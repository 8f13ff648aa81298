"""Text metrics: known extremes, agreement with sacrebleu, and the reference definitions against their golden values."""

import json
from typing import Any

import pytest

from modeling.metrics.reference_implementation import paper_bleu, paper_rouge, paper_rouge_l, paper_rouge_n
from modeling.metrics.text import (
    bleu_of,
    bleu_statistics,
    distinct,
    feature_match,
    medoid,
    text_metrics,
)
from tests.modeling.golden import GOLDEN, need

REFERENCES = ["the sound is clear and loud", "I like the strap of this bag", "cheap but it works well enough"]
GENERATED = ["the sound is clear", "I like the strap of this camera", "it broke"]


def test_a_perfect_copy_scores_100() -> None:
    metrics = text_metrics(REFERENCES, REFERENCES, [["sound"], ["strap"], []], resamples=20, seed=1)
    for name in ("bleu4", "rouge1", "rouge2", "rougeL", "feature_match"):
        assert metrics[name] == pytest.approx(100)
    assert metrics["ci95"]["bleu4"] == pytest.approx([100, 100])
    assert metrics["num_examples"] == 3


def test_no_sentences_give_no_numbers() -> None:
    assert text_metrics([], [], [], resamples=10, seed=1) == {"num_examples": 0}


def test_summed_statistics_give_sacrebleus_corpus_score() -> None:
    from sacrebleu.metrics.bleu import BLEU

    expected = BLEU().corpus_score(GENERATED, [REFERENCES]).score
    assert bleu_of(bleu_statistics(GENERATED, REFERENCES).sum(0)) == pytest.approx(expected)
    assert text_metrics(GENERATED, REFERENCES, resamples=0, seed=1)["bleu4"] == pytest.approx(expected)


def test_intervals_hold_the_mean() -> None:
    metrics = text_metrics(GENERATED * 20, REFERENCES * 20, resamples=200, seed=1)
    for name in ("bleu4", "rouge1", "rouge2", "rougeL"):
        low, high = metrics["ci95"][name]
        assert low < metrics[name] < high


def test_distinct_counts_different_n_grams() -> None:
    assert distinct(["a b", "a c"], 1) == 75.0
    assert distinct(["a b", "a b c"], 2) == pytest.approx(100 * 2 / 3)
    assert distinct(["", "a"], 2) == 0.0


def test_a_feature_must_stand_as_a_whole_word() -> None:
    assert feature_match(["The Sound, is clear"], [["sound"]]) == 100.0
    assert feature_match(["the soundtrack"], [["sound"]]) == 0.0
    assert feature_match(["good battery life !"], [["battery life"]]) == 100.0
    assert feature_match(["anything"], [[]]) == 0.0


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(need(GOLDEN / "metrics_share.json").read_text(encoding="utf-8"))
    return loaded


@pytest.mark.real
def test_bleu_is_the_originals(golden: dict[str, Any]) -> None:
    for case in golden["text"]:
        texts, hypotheses = case["references"], case["generated"]
        ways = {
            "raw_strings": ([[list(text)] for text in texts], [list(text) for text in hypotheses]),
            "split": ([[text.split()] for text in texts], [text.split() for text in hypotheses]),
        }
        for way, (references, tokens) in ways.items():
            for order in (1, 2, 3, 4):
                for smooth in (False, True):
                    key = f"bleu{order}{'_smooth' if smooth else ''}_{way}"
                    found = paper_bleu(references, tokens, order=order, smooth=smooth)[0]
                    assert 100 * found == pytest.approx(case[key]), (case["name"], key)
        whole = paper_bleu(*ways["split"])
        assert [whole[0], *whole[1], *whole[2:]] == pytest.approx(
            [case["compute_bleu4_split"][0], *case["compute_bleu4_split"][1], *case["compute_bleu4_split"][2:]]
        )
    for case in golden["compute_bleu_multi_ref"]:
        bleu, precisions, *rest = paper_bleu(case["refs"], case["hyp"], order=case["order"], smooth=case["smooth"])
        assert [bleu, *rest] == pytest.approx([case["out"][0], *case["out"][2:]])
        assert precisions == pytest.approx(case["out"][1])


@pytest.mark.real
def test_rouge_is_the_originals(golden: dict[str, Any]) -> None:
    for case in golden["text"]:
        assert paper_rouge(case["generated"], case["references"]) == pytest.approx(case["rouge"]), case["name"]
        for part in case["rouge_n"]:
            for text, reference, expected in zip(case["generated"], case["references"], part["out"], strict=True):
                assert paper_rouge_n(text, reference, part["n"]) == pytest.approx(expected)
        for text, reference, expected in zip(
            case["generated"], case["references"], case["rouge_l_sentence"], strict=True
        ):
            assert paper_rouge_l(text, reference) == pytest.approx(expected)


def test_medoid_counts_pairs_and_words_as_written() -> None:
    reordered = ["is the lid good", "the lid is good", "the lid is fine", "lid the good is"]
    assert medoid(reordered) == 0  # three of four are permutations of the same words
    assert medoid(reordered, pairs=True) == 1
    assert medoid(["The lid.", "the lid!", "the lid!"], pairs=True) == 1
    assert medoid(["", ""], pairs=True) == 0
