"""Counting baselines: values by hand on a small world; seen items never rank; ties favour no numbering."""

import numpy as np
import pyarrow as pa
import pytest

from features import schema
from features.runtime.seeds import rng
from features.store.tables import from_rows
from modeling.baselines import counting
from modeling.data.user_histories import UserHistories, known_before_test

NUM_ITEMS = 6
SEQUENCES = {1: [1, 2, 3, 4, 5], 2: [1, 2, 4, 3, 6], 3: [2, 1, 5, 6, 4]}


def interactions(sequences: dict[int, list[int]], *, timestamps: bool = True) -> pa.Table:
    rows = []
    for user, items in sequences.items():
        for position, item in enumerate(items, start=1):
            split = {len(items): "test", len(items) - 1: "valid"}.get(position, "train")
            time = 100 * user + position if timestamps else None
            rows.append(
                {
                    "user_id": user,
                    "position": position,
                    "item_id": item,
                    "rating": 5.0,
                    "timestamp": time,
                    "split": split,
                }
            )
    return from_rows(schema.INTERACTIONS, rows)


@pytest.fixture
def histories() -> UserHistories:
    return known_before_test(interactions(SEQUENCES))


USERS = np.array([1, 2, 3])


def test_histories_hold_train_and_valid_but_not_test(histories: UserHistories) -> None:
    assert histories.known.row(2).tolist() == [1, 2, 4, 3]
    assert histories.train.row(2).tolist() == [1, 2, 4]
    assert histories.targets.tolist() == [0, 5, 6, 4]
    assert histories.seen(np.array([3]), NUM_ITEMS).tolist() == [[True, True, False, False, True, True]]


def test_popularity_counts_train_only(histories: UserHistories) -> None:
    assert counting.train_counts(histories, NUM_ITEMS).tolist() == [3, 3, 1, 1, 1, 0]


def test_recent_popularity_counts_the_newest_share_of_train() -> None:
    assert counting.recent_counts(interactions(SEQUENCES), NUM_ITEMS, 0.3).tolist() == [1, 1, 0, 0, 1, 0]  # type: ignore[union-attr]
    assert counting.recent_counts(interactions(SEQUENCES, timestamps=False), NUM_ITEMS, 0.3) is None


def test_item_knn_is_the_cosine_of_shared_users(histories: UserHistories) -> None:
    scores = counting.item_knn(histories, NUM_ITEMS)(np.array([1]))[0]
    train = {1: {1, 2, 3}, 2: {1, 2, 4}, 3: {1, 2, 5}}

    def cosine(a: int, b: int) -> float:
        users = [{u for u, items in train.items() if i in items} for i in (a, b)]
        return len(users[0] & users[1]) / max(1.0, np.sqrt(len(users[0]) * len(users[1]))) if a != b else 0.0

    expected = [sum(cosine(known, item) for known in [1, 2, 3, 4]) for item in range(1, NUM_ITEMS + 1)]
    np.testing.assert_allclose(scores, expected, atol=2e-4)


def test_seen_items_never_stand_before_the_target(histories: UserHistories) -> None:
    scorer = counting.popularity(np.array([9, 8, 7, 6, 1, 0]))
    ranks = counting.ranks_among_unseen(scorer, histories, USERS, NUM_ITEMS)
    assert ranks.tolist() == [1, 2, 2]


def test_candidates_alone_are_ranked() -> None:
    scorer = counting.popularity(np.array([9, 8, 7, 6, 1, 0]))
    candidates = np.array([[5, 1, 6], [6, 3, 0], [4, 1, 2]])
    ranks = counting.ranks_among(scorer, USERS, np.array([5, 6, 4]), candidates, NUM_ITEMS)
    assert ranks.tolist() == [2, 2, 3]


def test_the_number_rule_counts_on_from_the_largest_number(histories: UserHistories) -> None:
    assert counting.number_rule_ranks(histories, USERS).tolist() == [1, 2, 0]


def test_the_number_rule_detects_numbering_by_first_appearance() -> None:
    generator = rng(1, "walks")
    walks = {user: generator.permutation(2000)[:6].tolist() for user in range(1, 301)}
    first: dict[int, int] = {}
    for items in walks.values():
        for item in items:
            first.setdefault(item, len(first) + 1)
    leaky = known_before_test(interactions({u: [first[i] for i in items] for u, items in walks.items()}))
    fair = known_before_test(interactions({u: [i + 1 for i in items] for u, items in walks.items()}))
    users = np.arange(1, 301)
    assert (counting.number_rule_ranks(leaky, users) == 1).mean() > 0.5
    assert (counting.number_rule_ranks(fair, users) == 1).mean() < 0.02


def test_equal_scores_rank_the_target_in_the_middle_on_average() -> None:
    users = np.arange(1, 201)
    sequences = {user: [1, 2, 3, 4 + user % 96] for user in range(1, 201)}
    histories = known_before_test(interactions(sequences))
    ranks = counting.ranks_among_unseen(counting.popularity(np.zeros(100, np.int64)), histories, users, 100)
    assert 40 < ranks.mean() < 57


def test_random_ranks_do_not_depend_on_the_block(histories: UserHistories, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = counting.random_scores(NUM_ITEMS, 7)
    whole = counting.ranks_among_unseen(scorer, histories, USERS, NUM_ITEMS)
    monkeypatch.setattr("modeling.baselines.counting.BLOCK", 1)
    assert counting.ranks_among_unseen(scorer, histories, USERS, NUM_ITEMS).tolist() == whole.tolist()


def test_recent_popularity_is_left_out_without_timestamps(histories: UserHistories) -> None:
    plain = {"random", "popularity", "item_knn"}
    for timestamps, expected in ((True, plain | {"recent_popularity"}), (False, plain)):
        table = interactions(SEQUENCES, timestamps=timestamps)
        found = counting.plain_scorers(histories, table, num_items=NUM_ITEMS, recent_share=0.1, seed=1)
        assert set(found) == expected
