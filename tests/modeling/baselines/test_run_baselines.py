"""All baselines rank the same users, candidates and items; candidates sampled by popularity; slices."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.runtime.stage import Context
from modeling.baselines import counting
from modeling.baselines.run_baselines import Content, score_baselines
from modeling.config.evaluate import Params
from modeling.data.prompt_dataset import PhotoTable
from modeling.data.ragged import Ragged
from modeling.data.user_histories import UserHistories, known_before_test
from modeling.evaluation.popularity_negatives import popular_candidates
from modeling.metrics.slices import popularity_thirds, slice_masks, slices_by_model
from tests.modeling.baselines.test_counting import NUM_ITEMS, SEQUENCES, USERS, interactions


@pytest.fixture
def histories() -> UserHistories:
    return known_before_test(interactions(SEQUENCES))


@dataclass(frozen=True, kw_only=True)
class Tables:
    interactions: pa.Table
    histories: UserHistories
    popular: Ragged
    content: Content


def test_all_baselines_rank_the_same_users_and_lists(histories: UserHistories) -> None:
    inputs = Tables(
        interactions=interactions(SEQUENCES, timestamps=False),
        histories=histories,
        popular=Ragged.from_rows([[], [5, 6], [6, 5], [4, 3]]),
        content=Content(
            titles=["a", "b", None, "a", "b", "c"],
            title_vectors=np.eye(6, dtype=np.float32),
            photos=PhotoTable(np.zeros((7, 2), np.float32), np.zeros(7, bool)),
        ),
    )
    baselines = score_baselines(
        inputs, Params(sasrec=None), Context(dataset="tiny", seed=1, shared={}),
        users={"sequential": np.array([1, 3]), "direct": np.array([1, 2])}, candidates=np.array([[5, 6], [5, 6]]),
    )  # fmt: skip
    assert baselines.sequential_users.tolist() == [1, 3]
    assert baselines.direct_users.tolist() == [1, 2]
    named = {"random", "popularity", "item_knn", "title_bm25", "title_embedding", "ridge"}
    assert {task: set(ranks) for task, ranks in baselines.ranks.items()} == {
        "sequential": named | {"number_rule"}, "direct": named, "direct_popular": named, "direct_whole": named,
    }  # fmt: skip
    scorer = counting.popularity(counting.train_counts(histories, NUM_ITEMS))
    assert baselines.ranks["direct"]["popularity"].tolist() == [1, 2]
    whole = counting.ranks_among_unseen(scorer, histories, USERS, NUM_ITEMS)
    assert baselines.ranks["sequential"]["popularity"].tolist() == whole[[0, 2]].tolist()
    assert baselines.ranks["direct_whole"]["popularity"].tolist() == whole[:2].tolist()
    assert baselines.aligned("direct", np.array([2]))["popularity"].tolist() == [2]
    assert baselines.notes == {}


def test_popular_candidates_are_unseen_distinct_and_fixed(histories: UserHistories) -> None:
    counts = np.array([5, 1, 9, 0, 2, 7])
    listed = popular_candidates(histories, np.array([3, 1]), counts, num_negatives=2, seed=4)
    assert listed.tolist() == popular_candidates(histories, np.array([3, 1]), counts, num_negatives=2, seed=4).tolist()
    assert listed[:, 0].tolist() == [4, 5]
    assert listed[0, 1:].tolist() == [3, 0]  # user 3 knows 1, 2, 5, 6; the other unseen item is the test item
    assert listed[1, 1:].tolist() == [6, 0]


def test_popular_items_are_drawn_as_often_as_they_are_bought() -> None:
    histories = known_before_test(interactions({user: [1, 2, 3, 4] for user in range(1, 2001)}))
    counts = np.array([0, 0, 0, 0, 6, 3, 1])
    listed = popular_candidates(histories, np.arange(1, 2001), counts, num_negatives=1, seed=1)
    shares = np.bincount(listed[:, 1], minlength=8)[5:] / 2000
    np.testing.assert_allclose(shares, [0.6, 0.3, 0.1], atol=0.03)


@given(st.lists(st.integers(0, 50), min_size=1, max_size=60))
def test_thirds_are_a_partition_in_order_of_popularity(counts: list[int]) -> None:
    thirds = popularity_thirds(np.array(counts))
    assert ((thirds == -1) == (np.array(counts) == 0)).all()
    for low, high in ((0, 1), (1, 2), (0, 2)):
        if (thirds == low).any() and (thirds == high).any():
            assert np.array(counts)[thirds == low].min() >= np.array(counts)[thirds == high].max()


def test_thirds_by_hand() -> None:
    assert popularity_thirds(np.array([6, 3, 2, 1, 0])).tolist() == [0, 1, 2, 2, -1]


def test_slices_part_the_users_and_show_models_side_by_side(histories: UserHistories) -> None:
    present = np.array([False, True, True, True, True, False, True])
    masks = slice_masks(
        USERS, histories.targets[USERS], histories=histories, counts=np.array([9, 0, 0, 1, 3, 0]), photo_present=present
    )
    assert {name: set(parts) for name, parts in masks.items()} == {
        "history_length": {"1-4"}, "target_popularity": {"tail"}, "target_in_train": {"seen", "cold"},
        "target_photo": {"present", "absent"},
    }  # fmt: skip
    for name in ("history_length", "target_in_train", "target_photo"):
        assert sum(mask.astype(int) for mask in masks[name].values()).tolist() == [1, 1, 1]  # type: ignore[union-attr]
    found = slices_by_model({"a": np.array([1, 0, 1]), "b": np.array([0, 1, 0])}, masks, resamples=20, seed=1)
    cold = found["target_in_train"]["cold"]
    assert cold["num_users"] == 1
    assert {name: block["hr@10"] for name, block in cold["models"].items()} == {"a": 0.0, "b": 1.0}
    assert found["target_in_train"]["seen"]["models"]["a"] == {
        "hr@10": 1.0, "ndcg@10": 1.0, "num_users": 2, "ci95": {"hr@10": [1.0, 1.0], "ndcg@10": [1.0, 1.0]},
    }  # fmt: skip
