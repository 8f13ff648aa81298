"""Batching: every row once, the mix of families in every step, little padding in every microbatch."""

import numpy as np
import pytest

from features.runtime.seeds import rng
from modeling.data.length_batching import padding_share, plan_steps, split_into_microbatches


def lengths_of_a_mix(count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Source lengths, target lengths and kinds (0 history, 1 yes or no, 2 candidates, 3 explanation)."""
    generator = rng(1, "mix")
    kinds = generator.choice(4, count, p=[0.41, 0.23, 0.17, 0.19])
    sources = np.array([30, 17, 600, 28])[kinds] + generator.integers(0, np.array([60, 6, 20, 14])[kinds] + 1)
    targets = np.where(kinds == 3, generator.integers(6, 40, count), generator.integers(2, 5, count))
    return sources, targets, kinds


@pytest.mark.parametrize("batching", ["shuffled", "length_bucketed"])
def test_an_epoch_holds_every_row_once(batching: str) -> None:
    sources, targets, _ = lengths_of_a_mix(1000)
    steps = plan_steps(sources, targets, batch_size=36, batching=batching, generator=rng(1, "plan"))
    assert sorted(np.concatenate(steps).tolist()) == list(range(1000))
    assert sorted(len(step) for step in steps)[1:] == [36] * 27
    again = plan_steps(sources, targets, batch_size=36, batching=batching, generator=rng(1, "plan"))
    assert all((a == b).all() for a, b in zip(steps, again, strict=True))


def test_shuffled_steps_have_the_mix_and_little_padding() -> None:
    sources, targets, kinds = lengths_of_a_mix(3600)
    steps = plan_steps(sources, targets, batch_size=36, batching="shuffled", generator=rng(1, "plan"))
    shares = np.array([[np.mean(kinds[step] == kind) for kind in range(4)] for step in steps])
    np.testing.assert_allclose(shares.mean(0), [0.41, 0.23, 0.17, 0.19], atol=0.02)
    assert shares.std(0).max() < 0.1  # steps mix the kinds
    microbatches = [
        part
        for step in steps
        for part in split_into_microbatches(step, sources, targets, batching="shuffled", max_tokens_per_microbatch=4000)
    ]
    assert sorted(np.concatenate(microbatches).tolist()) == list(range(3600))
    assert padding_share(microbatches, sources) < 0.05
    assert padding_share(microbatches, targets) < 0.25
    assert max(len(part) * sources[part].max() for part in microbatches) <= 4000
    assert len(microbatches) / len(steps) < 14
    # Steps of similar length have similar kinds, which shuffled batching avoids.
    sorted_steps = plan_steps(sources, targets, batch_size=36, batching="length_bucketed", generator=rng(1, "plan"))
    assert np.array([[np.mean(kinds[step] == kind) for kind in range(4)] for step in sorted_steps]).std(0).min() > 0.2


def test_microbatches_are_split_by_class_and_by_tokens() -> None:
    sources, targets = np.array([20, 600, 24, 610, 22]), np.array([3, 3, 3, 3, 30])
    rows = np.array([4, 3, 2, 1, 0])

    def cut(batching: str, tokens: int | None) -> list[list[int]]:
        microbatches = split_into_microbatches(
            rows, sources, targets, batching=batching, max_tokens_per_microbatch=tokens
        )
        return [part.tolist() for part in microbatches]

    assert cut("shuffled", None) == [[0, 2], [4], [1, 3]]
    assert cut("shuffled", 1000) == [[0, 2], [4], [1], [3]]
    assert cut("length_bucketed", None) == [[0, 4, 2, 1, 3]]
    assert cut("length_bucketed", 100) == [[0, 4, 2], [1], [3]]


def test_many_long_rows_of_one_length_have_no_padding() -> None:
    sources = np.array([30] * 40 + [600] * 30 + [601] * 2 + [602] * 35)
    rows = np.random.default_rng(1).permutation(len(sources))
    microbatches = split_into_microbatches(
        rows, sources, np.full(len(sources), 3), batching="length_bucketed", max_tokens_per_microbatch=12_040
    )
    assert sorted(np.concatenate(microbatches).tolist()) == list(range(len(sources)))
    assert [sorted(set(sources[part].tolist())) for part in microbatches] == [
        [30], [600], [600], [601], [602], [602],
    ]  # fmt: skip
    assert [len(part) for part in microbatches] == [40, 20, 10, 2, 20, 15]
