"""The verdict: each weakness is a separate finding, and a clean result has none."""

import copy
from typing import Any

import pytest

from modeling.evaluation.finding import Finding
from modeling.evaluation.summary_numbers import summary_numbers
from modeling.evaluation.verdict import findings, leak_line, verdict_lines, worst
from modeling.summary import summary_lines, table_rows


def ranking(value: float, *, differences: dict[str, list[float]] | None = None, **more: Any) -> dict[str, Any]:
    block: dict[str, Any] = {
        "hr@1": value / 4, "hr@10": value, "num_users": 400, "ci95": {"hr@10": [value - 0.02, value + 0.02]},
        "differences": {name: {"hr@10": gap} for name, gap in (differences or {}).items()},
    }  # fmt: skip
    return block | more


def slice_of(value: float, users: int = 100) -> dict[str, Any]:
    return {"num_users": users, "hr@10": value, "ci95": {"hr@10": [max(0.0, value - 0.01), value + 0.01]}}


def no_leak() -> dict[str, Any]:
    family = {"leaks": False, "reasons": [], "test_prompts": 400, "copied_prompts": 0, "copied_share": 0.0}
    return {"leaking": False, "reasons": []} | {name: dict(family) for name in ("sequential", "direct", "explanation")}


@pytest.fixture
def results() -> dict[str, Any]:
    """Results without a weakness."""
    better = {"ridge": [0.1, 0.05, 0.15], "popularity": [0.2, 0.15, 0.25], "without_photos": [0.19, 0.1, 0.2]}
    sentences: dict[str, Any] = {
        "given": ["rating"],
        "num_examples": 100,
        "bleu4": 1.5,
        "distinct_sentences": 60.0,
        "empty": 0.0,
    }
    baselines = {
        "ridge": ranking(0.16),
        "popularity": ranking(0.05),
        "random": ranking(0.02),
        "number_rule": ranking(0.9),
    }
    return {
        "dataset": "tiny", "num_users": 400, "num_items": 200, "num_candidates": {"direct": 19},
        "sequential": {
            "A-3": ranking(0.26, differences=better, slices={"target_popularity": {"tail": slice_of(0.08)}}),
            "A-9": ranking(0.25),
        },
        "direct": {"B-5:history": ranking(0.8, differences=better), "B-8:history": ranking(0.78)},
        "sequential_without_photos": {"A-3": ranking(0.065)}, "direct_without_photos": {},
        "explanation": {"C-12": sentences | {"given": ["feature", "rating"]}, "C-3": sentences},
        "baselines": {"sequential": baselines, "direct": {}},
        "training": {"train": {"stopped": "finished", "steps": 9, "planned_steps": 9}}, "baseline_notes": {},
        "leakage": no_leak(),
    }  # fmt: skip


def test_a_result_without_a_weakness_is_good_throughout(results: dict[str, Any]) -> None:
    varied = "writes 60 different sentences for 100 reviews"
    against = "best baseline 16 by ridge regression (EASE); without photos 6.5"
    assert verdict_lines(results) == [
        f"VIP5 finds the next item for 26 of 100 users among the first ten; {against}.",
        "VIP5 has the bought item among its first ten of 19 candidates for 80 of 100 users.",
        "VIP5 writes explanations with BLEU-4 1.5 (C-12, feature and rating given).",
        "VIP5 writes explanations with BLEU-4 1.5 (C-3, rating given).",
        f"Explanations vary: C-12 {varied}; C-3 {varied}.",
        "Leaks: none found.",
    ]
    assert worst(findings(results)) == "good"


def news(results: dict[str, Any]) -> list[Finding]:
    return [finding for finding in findings(results) if not finding.text.startswith(("VIP5 ", "Leaks: none", "Expl"))]


def test_baselines_ahead_are_named_with_their_lead(results: dict[str, Any]) -> None:
    results["sequential"]["A-3"]["differences"]["ridge"]["hr@10"] = [-0.1, -0.15, -0.05]
    assert news(results) == [
        Finding("bad", "Bad: ahead of VIP5 on the next item: ridge regression (EASE) by 10 (5 to 15) of 100 users.")
    ]
    assert findings(results)[0].state == "bad"


def test_a_baseline_that_is_level_is_amber(results: dict[str, Any]) -> None:
    results["sequential"]["A-3"]["differences"]["ridge"]["hr@10"] = [0.01, -0.02, 0.04]
    (found,) = news(results)
    assert found == Finding(
        "weak",
        "Weak: on the next item not clearly ahead of ridge regression (EASE) (difference -2 to 4 of 100 users).",
    )


def test_the_number_rule_and_chance_are_no_opponents(results: dict[str, Any]) -> None:
    results["sequential"]["A-3"]["differences"]["number_rule"] = {"hr@10": [-0.5, -0.6, -0.4]}
    assert news(results) == []


def test_groups_below_random_are_named(results: dict[str, Any]) -> None:
    results["sequential"]["A-3"]["slices"] = {
        "target_popularity": {"tail": slice_of(0.003), "head": slice_of(0.5)},
        "target_in_train": {"cold": slice_of(0.0, users=5)},  # too few to say
    }
    assert news(results) == [Finding("weak", "Weak: worse than random for rare items (0.3 of 100 users, 5 at random).")]


def test_a_held_out_prompt_that_does_much_worse_is_named(results: dict[str, Any]) -> None:
    results["sequential"]["A-9"] = ranking(0.1)
    assert news(results) == [Finding("weak", "Weak: held-out prompt A-9: 10 of 100 users, 26 by A-3.")]


def test_direct_without_history_equal_to_popularity_is_named(results: dict[str, Any]) -> None:
    results["baselines"]["direct"] = {"popularity": ranking(0.15)}
    results["direct"]["B-5"] = ranking(0.14, differences={"popularity": [-0.01, -0.03, 0.01]})
    assert [finding.text for finding in news(results)] == [
        "Weak: among candidates, without the history (B-5), no better than popularity: 14 of 100 users, popularity 15."
    ]


@pytest.mark.parametrize(
    ("gap", "state", "words"), [([0.0, -0.01, 0.01], "weak", "do not help"), ([-0.1, -0.2, -0.05], "bad", "hurt")]
)
def test_photos_that_do_not_help_are_named(results: dict[str, Any], gap: list[float], state: str, words: str) -> None:
    results["sequential"]["A-3"]["differences"]["without_photos"]["hr@10"] = gap
    (found,) = news(results)
    assert found.state == state
    assert f"photos {words}: 26 of 100 users with them, 6.5 without" in found.text


def test_a_dataset_without_photos_is_not_blamed_for_them(results: dict[str, Any]) -> None:
    results["sequential"]["A-3"]["differences"]["without_photos"]["hr@10"] = [0.0, -0.01, 0.01]
    results["sequential"]["A-3"]["slices"]["target_photo"] = {"absent": slice_of(0.26)}
    assert news(results) == []
    assert "without photos" not in findings(results)[0].text


def test_whatever_was_ended_by_a_limit_is_called_undertrained(results: dict[str, Any]) -> None:
    results["training"]["train"] = {"stopped": "max_seconds", "steps": 115, "planned_steps": 272}
    results["baseline_notes"] = {"sasrec": {"fair": False, "why_not": ["it ended early"]}}
    assert [finding.text for finding in news(results)] == [
        "Weak: undertrained baseline SASRec: it ended early.",
        "Weak: undertrained VIP5: train was ended by its time limit at step 115 of 272.",
    ]


def test_the_leak_line_has_reasons_or_the_number_of_copies(results: dict[str, Any]) -> None:
    results["leakage"]["explanation"] |= {"test_prompts": 228, "copied_prompts": 2, "copied_share": 2 / 228}
    copies = "explanation: 2 of 228 test prompts (0.9 %) are word for word in train"
    assert leak_line(results) == f"Leaks: none found ({copies})."
    results["leakage"] |= {"leaking": True, "reasons": ["ranking: because"]}
    assert findings(results)[-1] == Finding("bad", "Leaks: ranking: because.")


def test_the_summary_has_ten_numbers_and_null_for_missing_ones(results: dict[str, Any]) -> None:
    results["verdict"] = ["a line"]
    assert summary_numbers(results) == {
        "verdict": ["a line"],
        "next_item_hr10": 0.26, "next_item_held_out_hr10": 0.25, "next_item_no_photos_hr10": 0.065,
        "next_item_baseline_hr10": 0.16, "candidates_hr10": 0.8, "candidates_baseline_hr10": None,
        "explanation_bleu4": 1.5, "explanation_baseline_bleu4": None, "cold_items_hr10": None, "leaks": 0,
    }  # fmt: skip
    bare = copy.deepcopy(results) | {"sequential": {}, "direct": {}, "explanation": {}}
    assert [value for value in summary_numbers(bare).values() if value is not None] == [["a line"], 0.16, 0]


def test_the_table_has_at_most_eight_rows(results: dict[str, Any]) -> None:
    for name in ("sasrec", "item_knn", "title_bm25", "title_embedding", "recent_popularity"):
        results["baselines"]["sequential"][name] = ranking(0.1)
    rows = table_rows(results)
    assert rows[0] == ["of 100 users", "next item in the first ten of 200", "item in the first ten of 19 candidates"]
    assert len(rows) == 9
    assert rows[1] == ["VIP5", "26 \N{PLUS-MINUS SIGN} 2", "80 \N{PLUS-MINUS SIGN} 2"]
    assert rows[4][0] == "best baseline: ridge regression (EASE)"
    assert rows[-1][0] == "baseline: random"


def test_no_word_of_the_terminal_is_jargon(results: dict[str, Any], tmp_path: Any) -> None:
    from features.runtime.stage import Places

    text = "\n".join(summary_lines(results, Places(dataset="tiny", root=tmp_path)))
    assert not [word for word in ("HR@", "NDCG", "hr@", "MRR") if word in text]
