"""Baselines without training: random, popularity, recent popularity, item k-nearest neighbours, the number rule.

Reads interactions before the test item; returns the rank of each user's test item among unseen items or among given
candidates. Scores are dense for one block of users at a time (256 users x 20,000 items, 20 MB). Co-occurrence is held
in compressed rows built with NumPy.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32, Float64, Int64

from features.runtime.seeds import rng
from modeling.data.ragged import Ragged, offsets_of
from modeling.data.user_histories import UserHistories

IntArray = npt.NDArray[np.int64]
Scorer = Callable[[Int64[np.ndarray, "B"]], Float32[np.ndarray, "B I"]]
"""Maps user ids to scores of items 1 to I; higher is better."""

BLOCK = 256  # users per block of scores
_LONGEST = 500  # newest train items of a user that form co-occurrence pairs; bounds memory for long histories


def popularity(counts: Int64[np.ndarray, "I"]) -> Scorer:
    """Returns a scorer that gives every user the same scores: the interactions of each item."""
    scores = counts.astype(np.float32)
    return lambda user_ids: np.repeat(scores[None], len(user_ids), axis=0)


def train_counts(histories: UserHistories, num_items: int) -> Int64[np.ndarray, "{num_items}"]:
    """Returns the train interactions of items 1 to I."""
    return np.bincount(histories.train.values, minlength=num_items + 1)[1:].astype(np.int64)


def recent_counts(interactions: pa.Table, num_items: int, share: float) -> Int64[np.ndarray, "{num_items}"] | None:
    """Returns each item's interactions among the newest `share` of all train interactions; None without timestamps."""
    train = interactions.filter(pc.equal(interactions["split"], "train"))
    if train["timestamp"].null_count or not train.num_rows:
        return None
    times, items = train["timestamp"].to_numpy(), train["item_id"].to_numpy()
    since = np.quantile(times, 1 - share)
    return np.bincount(items[times >= since], minlength=num_items + 1)[1:].astype(np.int64)


def random_scores(num_items: int, seed: int) -> Scorer:
    """Returns a scorer with uniform random scores, seeded per user, so that they do not depend on the blocks."""

    def score(user_ids: Int64[np.ndarray, "B"]) -> Float32[np.ndarray, "B I"]:
        rows = [rng(seed, "baseline", "random", int(user)).random(num_items, np.float32) for user in user_ids]
        return np.stack(rows)

    return score


def item_knn(histories: UserHistories, num_items: int) -> Scorer:
    """Returns a scorer that sums the cosine similarity of an item to the user's known items.

    The cosine of items i and j is users(i and j) / sqrt(users(i) x users(j)) over the train split (Deshpande and
    Karypis 2004). Train popularity breaks ties.
    """
    neighbours, cosines = _co_occurrence(histories.train, num_items)
    counts = train_counts(histories, num_items)
    popular = (counts / max(int(counts.max(initial=0)), 1)).astype(np.float32) * 1e-4

    def score(user_ids: Int64[np.ndarray, "B"]) -> Float32[np.ndarray, "B I"]:
        known = histories.known.take(user_ids)
        user_row = known.owners
        near = neighbours.take(known.values)
        weights = Ragged(cosines, neighbours.offsets).take(known.values).values
        cell = np.repeat(user_row, near.lengths) * num_items + near.values - 1
        total = np.bincount(cell, weights, minlength=len(user_ids) * num_items)
        scores: Float32[np.ndarray, "B I"] = total.reshape(len(user_ids), num_items).astype(np.float32) + popular
        return scores

    return score


def _co_occurrence(train: Ragged, num_items: int) -> tuple[Ragged, Float64[np.ndarray, "N"]]:
    """Returns in row i the items that share a user with item i, ascending, and the cosine with each."""
    keys = []
    base = num_items + 1
    for user in np.flatnonzero(train.lengths > 1):
        items = np.unique(train.row(int(user))[-_LONGEST:]).astype(np.int64)
        pairs = items[:, None] * base + items[None]
        keys.append(pairs[~np.eye(len(items), dtype=bool)])
    joined = np.concatenate(keys) if keys else np.zeros(0, np.int64)
    unique, shared = np.unique(joined, return_counts=True)
    left, right = unique // base, unique % base
    users = np.maximum(np.bincount(train.values, minlength=base), 1)
    cosines = shared / np.sqrt(users[left] * users[right])
    return Ragged(right, offsets_of(np.bincount(left, minlength=base))), cosines


def ranks_among_unseen(
    scorer: Scorer, histories: UserHistories, user_ids: Int64[np.ndarray, "N"], num_items: int
) -> Int64[np.ndarray, "N"]:
    """Returns the rank of each user's test item among all items the user has not seen.

    Ties are broken by a fixed permutation of the item numbers, so that no numbering is favoured.
    """
    ranks = []
    scramble = _scramble(num_items)
    for start in range(0, len(user_ids), BLOCK):
        users = user_ids[start : start + BLOCK]
        scores = scorer(users)
        scores[histories.seen(users, num_items)] = -np.inf
        target = histories.targets[users][:, None] - 1
        ranks.append(_rank(scores, scramble[None], np.take_along_axis(scores, target, 1), scramble[target]))
    return np.concatenate(ranks) if ranks else np.zeros(0, np.int64)


def ranks_among(
    scorer: Scorer,
    user_ids: Int64[np.ndarray, "N"],
    targets: Int64[np.ndarray, "N"],
    candidates: Int64[np.ndarray, "N C"],
    num_items: int,
) -> Int64[np.ndarray, "N"]:
    """Returns the rank of each target among its row of candidates, padded with 0."""
    ranks = []
    scramble = _scramble(num_items)
    for start in range(0, len(user_ids), BLOCK):
        part = slice(start, start + BLOCK)
        listed, target = candidates[part], targets[part][:, None] - 1
        scores = scorer(user_ids[part])
        candidate_scores = np.take_along_axis(scores, np.maximum(listed - 1, 0), 1)
        candidate_scores[listed == 0] = -np.inf
        order = scramble[np.maximum(listed - 1, 0)]
        ranks.append(_rank(candidate_scores, order, np.take_along_axis(scores, target, 1), scramble[target]))
    return np.concatenate(ranks) if ranks else np.zeros(0, np.int64)


def number_rule_ranks(histories: UserHistories, user_ids: Int64[np.ndarray, "N"]) -> Int64[np.ndarray, "N"]:
    """Returns the rank of the test item under the rule "largest number in the history + 1, then + 2, ..."; 0 for none.

    The rule learns nothing. If it hits, items were numbered along complete sequences and their numbers leak the target.

    Example: history 3, 9, 4 and test item 11 give rank 2; test item 5 gives 0.
    """
    known = histories.known.take(user_ids)
    largest = np.zeros(len(user_ids), np.int64)
    np.maximum.at(largest, known.owners, known.values)
    ranks: Int64[np.ndarray, "N"] = np.maximum(histories.targets[user_ids] - largest, 0)
    return ranks


def plain_scorers(
    histories: UserHistories, interactions: pa.Table, *, num_items: int, recent_share: float, seed: int
) -> dict[str, Scorer]:
    """Returns the counting scorers by name; recent_popularity requires timestamps."""
    scorers: dict[str, Scorer] = {
        "random": random_scores(num_items, seed),
        "popularity": popularity(train_counts(histories, num_items)),
        "item_knn": item_knn(histories, num_items),
    }
    recent = recent_counts(interactions, num_items, recent_share)
    if recent is not None:
        scorers["recent_popularity"] = popularity(recent)
    return scorers


def _scramble(num_items: int) -> Int64[np.ndarray, "{num_items}"]:
    return rng(0, "baseline", "ties").permutation(num_items).astype(np.int64)


def _rank(
    scores: Float32[np.ndarray, "N C"],
    order: Int64[np.ndarray, "#N C"],
    target: Float32[np.ndarray, "N 1"],
    target_order: Int64[np.ndarray, "N 1"],
) -> Int64[np.ndarray, "N"]:
    """Returns 1 + the number of candidates with a higher score, or an equal score and an earlier tie-break position."""
    ahead = (scores > target) | ((scores == target) & (order < target_order) & np.isfinite(scores))
    ranks: Int64[np.ndarray, "N"] = (1 + ahead.sum(1)).astype(np.int64)
    return ranks
