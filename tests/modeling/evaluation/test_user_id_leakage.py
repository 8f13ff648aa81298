"""The neighbour rule detects an order in which neighbours share items, and nothing in a shuffled one."""

import numpy as np

from modeling.data.user_histories import UserHistories, known_before_test
from modeling.evaluation.user_id_leakage import neighbour_ranks, shuffled_numbers
from tests.modeling.baselines.test_counting import interactions


def histories_of(sequences: list[list[int]]) -> UserHistories:
    return known_before_test(interactions(dict(enumerate(sequences, 1))))


def test_items_of_nearer_neighbours_rank_first() -> None:
    # train items are all but the last two of a user
    histories = histories_of([[1, 2, 3, 9], [4, 5, 6, 7], [7, 1, 2, 8], [9, 5, 4, 2]])
    # user 1: neighbour 2 gives items 4 and 5 (1 each), 3 gives 7 and 1 (1/2; 1 is known), 4 gives 9 and 5 (1/3)
    # scores 5: 4/3, 4: 1, 7: 1/2, 9: 1/3
    # user 2: users 1 and 3 give 1 (twice 1), 2 and 7 (1 each), user 4 gives 9 (1/2)
    # user 3: nobody has item 8
    # user 4: user 3 gives 7 and 1 (1 each), user 1 gives 1 and 2 (1/3 each)
    assert neighbour_ranks(histories, np.arange(5)).tolist() == [4, 3, 0, 3]


def test_neighbours_who_share_items_are_detected_chance_is_not() -> None:
    pairs = [[10 * n + k for k in order] for n in range(200) for order in ((1, 2, 3, 4), (4, 3, 2, 1))]
    histories = histories_of(pairs)
    numbers = np.arange(len(pairs) + 1)
    assert (neighbour_ranks(histories, numbers) > 0).mean() > 0.95
    assert (neighbour_ranks(histories, shuffled_numbers(numbers, 1)) > 0).mean() < 0.1


def test_one_user_has_no_neighbour() -> None:
    assert neighbour_ranks(histories_of([[1, 2, 3]]), np.arange(2)).tolist() == [0]
