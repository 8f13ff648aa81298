"""Bootstrap intervals: seeded, narrow with many users, paired between models."""

import numpy as np
import pytest

from modeling.metrics.bootstrap import differences, differences_to_all, interval, intervals, resampled_means


def test_the_same_seed_gives_the_same_interval() -> None:
    values = {"hr@10": np.random.default_rng(0).random(200)}
    first = intervals(values, resamples=300, seed=5)
    assert first == intervals(values, resamples=300, seed=5)
    assert first != intervals(values, resamples=300, seed=6)


def test_the_interval_is_the_textbook_one() -> None:
    values = np.repeat([0.0, 1.0], 500)
    low, high = intervals({"hr@1": values}, resamples=2000, seed=1)["hr@1"]
    half = 1.96 * np.sqrt(0.25 / 1000)
    assert low == pytest.approx(0.5 - half, abs=0.004)
    assert high == pytest.approx(0.5 + half, abs=0.004)


def test_blocks_do_not_change_the_number_of_resamples() -> None:
    means = resampled_means(np.ones((7, 2)), resamples=123, seed=1)
    assert means.shape == (123, 2)
    assert (means == 1).all()


def test_a_constant_gap_is_certain_though_both_vary() -> None:
    base = np.random.default_rng(0).random(100)
    gap = differences({"hr@10": base + 0.25}, {"hr@10": base}, resamples=200, seed=3)
    assert gap["hr@10"] == pytest.approx([0.25, 0.25, 0.25])
    assert intervals({"hr@10": base}, resamples=200, seed=3)["hr@10"][0] < base.mean() - 0.02


def test_a_model_minus_itself_is_nothing() -> None:
    values = {"hr@1": np.array([0.0, 1.0, 1.0])}
    assert differences(values, values, resamples=50, seed=1) == {"hr@1": [0.0, 0.0, 0.0]}


def test_other_users_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="same users"):
        differences({"hr@1": np.zeros(3)}, {"hr@1": np.zeros(4)}, resamples=10, seed=1)


def test_no_users_give_zeros() -> None:
    assert intervals({"hr@1": np.zeros(0)}, resamples=5, seed=1) == {"hr@1": [0.0, 0.0]}
    assert interval(np.array([1.0, 1.0])) == [1.0, 1.0]


def test_all_rivals_together_are_resampled_as_each_alone() -> None:
    generator = np.random.default_rng(1)
    ours, first, second = ({"hr@1": generator.random(30), "hr@5": generator.random(30)} for _ in range(3))
    together = differences_to_all(ours, {"first": first, "second": second}, resamples=40, seed=2)
    for name, theirs in (("first", first), ("second", second)):
        alone = differences(ours, theirs, resamples=40, seed=2)
        assert {metric: pytest.approx(gap) for metric, gap in alone.items()} == together[name]
