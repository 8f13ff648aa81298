"""Metrics by slice: history length, target popularity, cold-start targets, target photo.

Reads the users of one prompt, their test items and their ranks under every model; returns blocks for `evaluate.json`.
Each slice is bootstrapped separately; small slices are reported with wide intervals instead of being dropped.

Popularity slices: items are sorted by train interactions, most popular first. The head covers the first third of all
train interactions, the middle the second, the tail the rest. Cold items have no train interaction and are in none.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Bool, Int, Int64

from modeling.data.user_histories import UserHistories
from modeling.metrics.bootstrap import intervals
from modeling.metrics.ranking import by_user

Masks = Mapping[str, Mapping[str, Bool[np.ndarray, "N"]]]
LENGTHS = ((1, 4), (5, 9), (10, None))
THIRDS = ("head", "middle", "tail")


def popularity_thirds(counts: Int64[np.ndarray, "I"]) -> Int64[np.ndarray, "I"]:
    """Returns 0 head, 1 middle, 2 tail, -1 cold, given the train interactions of each item.

    Example: counts [6, 3, 2, 1, 0] (12 in all, thirds of 4) -> [0, 1, 2, 2, -1]
    """
    order = np.argsort(-counts, kind="stable")
    before = np.cumsum(counts[order]) - counts[order]  # interactions of all items bought more often
    third = np.minimum(before * 3 // max(int(counts.sum()), 1), 2)
    thirds = np.empty(len(counts), np.int64)
    thirds[order] = third
    thirds[counts == 0] = -1
    return thirds


def slice_masks(
    user_ids: Int[np.ndarray, "N"],
    targets: Int[np.ndarray, "N"],
    *,
    histories: UserHistories,
    counts: Int64[np.ndarray, "I"],
    photo_present: Bool[np.ndarray, "_"],
) -> Masks:
    """Returns a mask of the users in each slice; empty slices are omitted.

    Args:
        user_ids: users to slice.
        targets: their test items.
        histories: complete histories.
        counts: train interactions of items 1 to I.
        photo_present: (I + 1,) by item_id.
    """
    known = histories.known.lengths[user_ids]
    third = popularity_thirds(counts)[targets - 1]
    photo = photo_present[targets]
    masks: dict[str, dict[str, Bool[np.ndarray, "N"]]] = {
        "history_length": {
            f"{low}-{high}" if high else f"{low}+": (known >= low) & (known <= (high or known.max(initial=0)))
            for low, high in LENGTHS
        },
        "target_popularity": {name: third == number for number, name in enumerate(THIRDS)},
        "target_in_train": {"seen": third >= 0, "cold": third < 0},
        "target_photo": {"present": photo, "absent": ~photo},
    }
    return {name: {label: mask for label, mask in parts.items() if mask.any()} for name, parts in masks.items()}


def own_slices(
    ranks: Int[np.ndarray, "N"], masks: Masks, *, resamples: int, seed: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns hr@10 and ndcg@10 of one model per slice, with `num_users` and `ci95`."""
    return {
        name: {
            label: _blocks({"own": ranks}, mask, resamples=resamples, seed=seed)["own"] for label, mask in parts.items()
        }
        for name, parts in masks.items()
    }


def slices_by_model(
    ranks: Mapping[str, Int[np.ndarray, "N"]], masks: Masks, *, resamples: int, seed: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """Returns the same slices for all models: {slice: {label: {"num_users": n, "models": {name: block}}}}."""
    return {
        name: {
            label: {"num_users": int(mask.sum()), "models": _blocks(ranks, mask, resamples=resamples, seed=seed)}
            for label, mask in parts.items()
        }
        for name, parts in masks.items()
    }


def _blocks(
    ranks: Mapping[str, Int[np.ndarray, "N"]], mask: Bool[np.ndarray, "N"], *, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """Returns one block per model; all models share the same resamples."""
    values = {
        (model, metric): column
        for model, model_ranks in ranks.items()
        for metric, column in by_user(model_ranks[mask], [10]).items()
        if metric != "mrr@10"
    }
    limits = intervals(values, resamples=resamples, seed=seed) if resamples else {}
    blocks: dict[str, dict[str, Any]] = {model: {"num_users": int(mask.sum())} for model in ranks}
    for (model, metric), column in values.items():
        blocks[model][metric] = float(column.mean())
        if resamples:
            blocks[model].setdefault("ci95", {})[metric] = limits[model, metric]
    return blocks
