import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features.errors import ParamsError, TableError
from features.runtime.params import build
from features.runtime.stage import Places
from flows.registry.findings import gate_lines, gate_rows
from flows.registry.interval_plot import interval_plot
from flows.registry.quality_gate import Check, GateParams, Paired, compare, judge, table_checks
from tests.flows.registry.small_tables import NUM_USERS, write_small_tables

PARAMS = GateParams(metric="ndcg@10", min_slice_users=100, max_slice_regression=0.2)
GOOD = [Check(name="contracts", passed=True, found="", needed="", kind="sound")]
BASELINES = ("popularity", "item_knn", "title_bm25")
LOST = [-0.15, -0.19, -0.11]


def metrics(
    value: float, *, noise: float = 0.01, leaking: bool = False, slices: dict[str, Any] | None = None
) -> dict[str, Any]:
    block = {
        "ndcg@10": value,
        "hr@10": value,
        "ci95": {"ndcg@10": [value - noise, value + noise]},
        "slices": slices or {},
        "differences": {name: {"ndcg@10": [0.01, -0.01, 0.03]} for name in BASELINES},
    }
    baselines = {name: {"ndcg@10": value - 0.01} for name in BASELINES}
    leakage = {"leaking": leaking, "numbering": "random"}
    return {"sequential": {"A-3": block}, "baselines": {"sequential": baselines}, "leakage": leakage}


def against(**gaps: list[float] | None) -> dict[str, Any]:
    """The metrics of a model of NDCG@10 .1 with these paired differences; None where the run has no such baseline."""
    whole = metrics(0.1)
    for name, gap in gaps.items():
        whole["sequential"]["A-3"]["differences"][name] = {"ndcg@10": gap}
        if gap is None:
            del whole["sequential"]["A-3"]["differences"][name], whole["baselines"]["sequential"][name]
    return whole


def test_without_a_champion_a_sound_model_is_promoted() -> None:
    assert judge(metrics(0.01), None, None, GOOD, PARAMS).decision == "promote"
    assert judge(metrics(0.9, leaking=True), None, None, GOOD, PARAMS).decision == "refuse"


@pytest.mark.parametrize(
    ("new", "old", "noise", "decision"),
    [(0.2, 0.1, 0.01, "promote"), (0.1, 0.1, 0.01, "keep"), (0.11, 0.1, 0.01, "keep"), (0.115, 0.1, 0.01, "promote"),
     (0.05, 0.1, 0.01, "keep"), (0.2, 0.1, 0.1, "keep")],
)  # fmt: skip
def test_with_separate_intervals_the_gain_must_exceed_noise(
    new: float, old: float, noise: float, decision: str
) -> None:
    assert judge(metrics(new, noise=noise), metrics(old, noise=noise), None, GOOD, PARAMS).decision == decision


@pytest.mark.parametrize("champion", [None, metrics(0.01)])
def test_a_model_that_loses_to_a_simple_baseline_is_not_promoted(champion: dict[str, Any] | None) -> None:
    verdict = judge(against(item_knn=LOST), champion, None, GOOD, PARAMS)
    assert verdict.decision == "keep"
    message = (
        "A-3 ndcg@10 against item_knn: loses by 0.1500 [0.1100, 0.1900] (0.1000, the baseline 0.2500), needed no loss"
    )
    assert verdict.reason == message


@pytest.mark.parametrize(("gap", "decision"), [([-0.01, -0.03, 0.0], "promote"), ([-0.01, -0.03, -0.001], "keep")])
def test_a_loss_is_an_interval_that_is_wholly_below_zero(gap: list[float], decision: str) -> None:
    assert judge(against(popularity=gap), None, None, GOOD, PARAMS).decision == decision


def test_an_allowed_loss_promotes_and_is_still_reported() -> None:
    params = replace(PARAMS, may_lose_to=("item_knn",))
    verdict = judge(against(item_knn=LOST), None, None, GOOD, params)
    assert verdict.decision == "promote"
    assert verdict.reason.startswith(
        "every check passed; A-3 ndcg@10 against item_knn: loses by 0.1500 [0.1100, 0.1900]"
    )
    assert judge(against(item_knn=LOST, title_bm25=LOST), None, None, GOOD, params).decision == "keep"
    assert judge(against(item_knn=[0.1, 0.05, 0.2]), None, None, GOOD, params).reason == "every check passed"


def test_an_unmeasured_baseline_is_reported_and_fails() -> None:
    verdict = judge(against(title_bm25=None), None, None, GOOD, PARAMS)
    assert verdict.decision == "keep"
    assert "against title_bm25: not compared, a run without this baseline" in verdict.reason
    allowed = judge(against(title_bm25=None), None, None, GOOD, replace(PARAMS, may_lose_to=("title_bm25",)))
    assert allowed.decision == "promote"
    assert "not compared" in allowed.reason
    unasked = replace(PARAMS, baselines=("popularity", "item_knn"))
    assert judge(against(title_bm25=None), None, None, GOOD, unasked).reason == "every check passed"
    bare = metrics(0.1)
    bare["sequential"]["A-3"]["differences"] = {}
    assert "a run without intervals (evaluate.bootstrap_resamples)" in judge(bare, None, None, GOOD, PARAMS).reason


def test_names_of_baselines_are_checked_before_any_work() -> None:
    with pytest.raises(ParamsError, match=r"retrain\.gate\.baselines\[0\] = 'item_kn'; expected item_knn"):
        build(GateParams, {"baselines": ["item_kn"]}, where="retrain.gate")
    with pytest.raises(ParamsError, match="may_lose_to lists ridge, which baselines does not list"):
        build(GateParams, {"may_lose_to": ["ridge"]}, where="retrain.gate")


def test_a_leak_is_refused_with_its_reasons() -> None:
    leaking = metrics(0.9, leaking=True)
    assert "leakage: leaks: numbering random, needed" in judge(leaking, None, None, GOOD, PARAMS).reason
    leaking["leakage"]["reasons"] = ["sequential: 3 of 200 test pairs are in train prompts"]
    verdict = judge(leaking, None, None, GOOD, PARAMS)
    assert verdict.decision == "refuse"
    assert verdict.reason.startswith("leakage: leaks: sequential: 3 of 200 test pairs are in train prompts, needed ")


def test_a_leak_of_another_family_is_reported_only() -> None:
    results = metrics(0.9, leaking=True)
    reason = "explanation: 30 of 228 test prompts are word for word in train"
    results["leakage"] |= {"sequential": {"leaks": False}, "explanation": {"leaks": True}, "reasons": [reason]}
    verdict = judge(results, None, None, GOOD, PARAMS)
    assert verdict.decision == "promote"
    (check,) = [check for check in verdict.checks if check.name == "leakage"]
    assert check.found == f"nothing leaks in sequential prompts (elsewhere: {reason})"
    results["leakage"]["sequential"]["leaks"] = True
    assert judge(results, None, None, GOOD, PARAMS).decision == "refuse"


def test_the_gate_is_formatted_as_lines_and_as_rows() -> None:
    verdict = judge(against(item_knn=LOST), None, None, GOOD, replace(PARAMS, may_lose_to=("popularity",)))
    lines = gate_lines(verdict)
    assert lines[0] == "gate: not promoted"
    assert lines[4].startswith("  NO   A-3 ndcg@10 against item_knn    loses by 0.1500")
    assert lines[-1] == "  to promote it all the same, write in params.yaml: retrain.gate.may_lose_to: [item_knn]"
    assert [row["holds"] for row in gate_rows(verdict)] == ["yes", "yes", "yes", "NO", "yes"]


def test_without_intervals_nothing_is_better() -> None:
    bare = metrics(0.9)
    del bare["sequential"]["A-3"]["ci95"]
    assert judge(bare, metrics(0.1), None, GOOD, PARAMS).decision == "keep"


@pytest.mark.parametrize(
    ("difference", "share", "decision"),
    [((0.01, 0.002, 0.02), 0.9, "promote"), ((0.01, -0.002, 0.02), 0.9, "keep"), ((0.01, 0.002, 0.02), 0.3, "keep")],
)
def test_pairs_decide_where_enough_users_are_the_same(
    difference: tuple[float, float, float], share: float, decision: str
) -> None:
    paired = Paired(difference=difference, num_users=100, share=share)
    assert judge(metrics(0.11), metrics(0.1), paired, GOOD, PARAMS).decision == decision


@pytest.mark.parametrize(
    ("new", "users", "decision"), [(0.09, 500, "promote"), (0.07, 500, "keep"), (0.07, 99, "promote")]
)
def test_no_large_slice_may_fall_far(new: float, users: int, decision: str) -> None:
    old_part = {"length": {"1-4": {"ndcg@10": 0.1, "hr@10": 0.2, "num_users": 500}}}
    new_part = {"length": {"1-4": {"ndcg@10": new, "hr@10": 0.2, "num_users": users}}}
    verdict = judge(metrics(0.2, slices=new_part), metrics(0.1, slices=old_part), None, GOOD, PARAMS)
    assert verdict.decision == decision
    assert ("slice length 1-4 ndcg@10: 0.1000 to 0.0700" in verdict.reason) == (decision == "keep")


def test_a_broken_table_refuses_whatever_the_metric() -> None:
    broken = [Check(name="contracts", passed=False, found="rating 6", needed="", kind="sound")]
    assert judge(metrics(0.9), metrics(0.1), None, broken, PARAMS).decision == "refuse"


def test_a_prompt_that_was_not_evaluated_is_named() -> None:
    with pytest.raises(TableError, match=r"no sequential A-3 in the metrics; expected one of: A-9"):
        judge({"sequential": {"A-9": {}}, "leakage": {}}, None, None, GOOD, PARAMS)


def test_users_are_paired_by_key_not_by_id(tmp_path: Path) -> None:
    write_small_tables(tmp_path / "old", better=False)
    write_small_tables(tmp_path / "new", better=True, shift=1, more_users=50)
    paired = compare("d", tmp_path / "old", tmp_path / "new", PARAMS)
    assert paired is not None
    assert (paired.num_users, paired.share) == (NUM_USERS, NUM_USERS / 250)
    mean, low, high = paired.difference
    assert mean == pytest.approx((1 - 1 / np.log2(3)) / 2)
    assert 0 < low < mean < high
    same = compare("d", tmp_path / "old", tmp_path / "old", PARAMS)
    assert same is not None
    assert list(same.difference) == [0.0, 0.0, 0.0]


def test_without_predictions_there_are_no_pairs(tmp_path: Path) -> None:
    write_small_tables(tmp_path / "new", better=True)
    assert compare("d", tmp_path / "old", tmp_path / "new", PARAMS) is None


def test_tables_are_held_to_their_contracts(tmp_path: Path) -> None:
    places = write_small_tables(tmp_path, better=True)
    names = ["predictions", "sequences/users", "images/embeddings"]
    assert table_checks("d", names, tmp_path)[0].passed
    part = next(places.table("predictions").glob("part-*.parquet"))
    part.write_bytes(part.read_bytes()[:-10])
    broken = table_checks("d", [*names, "candidates", "nonsense"], tmp_path)[0]
    assert not broken.passed
    assert "nonsense is not declared" in broken.found
    assert "candidates: no table" in broken.found
    assert "predictions: " in broken.found


def test_the_plot_is_an_svg_that_names_what_it_shows(tmp_path: Path) -> None:
    places = Places(dataset="d", root=tmp_path)
    assert interval_plot(places, PARAMS) is None
    path = places.metrics("evaluate.json")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(metrics(0.1) | {"baselines": {"sequential": {"item_knn": {"ndcg@10": 0.05}}}}))
    svg = base64.b64decode((interval_plot(places, PARAMS) or "").partition(",")[2]).decode()
    assert "VIP5 A-3" in svg
    assert "item_knn" in svg
    assert svg.endswith("</svg>")
