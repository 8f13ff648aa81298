"""Results by kind of user and item: long histories, popular and unpopular items, items nobody bought before, photos.

Enters: the users of one prompt, their test items, ranks under every model. Leaves: blocks for the metrics file.
Trade-off: every slice has its own bootstrap, so that a gap between slices can be told from noise; small slices get
wide intervals instead of being left out.

Popularity: items by train interactions, most bought first; the head holds the first third of all train interactions,
the middle the second, the tail the rest. Cold items have no train interaction and belong to no third.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from modeling.data.user_histories import UserHistories
from modeling.metrics.bootstrap import intervals
from modeling.metrics.ranking import by_user

IntArray = npt.NDArray[np.int64]
Masks = Mapping[str, Mapping[str, npt.NDArray[np.bool_]]]
LENGTHS = ((1, 4), (5, 9), (10, None))
THIRDS = ("head", "middle", "tail")


def popularity_thirds(counts: IntArray) -> IntArray:
    """(I,) 0 head, 1 middle, 2 tail, -1 cold, by train interactions (I,).

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
    user_ids: IntArray,
    targets: IntArray,
    *,
    histories: UserHistories,
    counts: IntArray,
    photo_present: npt.NDArray[np.bool_],
) -> Masks:
    """Which of the users (N,) belong to each slice; empty slices are left out.

    Args:
        user_ids: (N,).
        targets: (N,) their test items.
        histories: complete histories.
        counts: (I,) train interactions of items 1 to I.
        photo_present: (I + 1,) by item_id.
    """
    known = histories.known.lengths[user_ids]
    third = popularity_thirds(counts)[targets - 1]
    photo = photo_present[targets]
    masks: dict[str, dict[str, npt.NDArray[np.bool_]]] = {
        "history_length": {
            f"{low}-{high}" if high else f"{low}+": (known >= low) & (known <= (high or known.max(initial=0)))
            for low, high in LENGTHS
        },
        "target_popularity": {name: third == number for number, name in enumerate(THIRDS)},
        "target_in_train": {"seen": third >= 0, "cold": third < 0},
        "target_photo": {"present": photo, "absent": ~photo},
    }
    return {name: {label: mask for label, mask in parts.items() if mask.any()} for name, parts in masks.items()}


def own_slices(ranks: IntArray, masks: Masks, *, resamples: int, seed: int) -> dict[str, dict[str, dict[str, Any]]]:
    """hr@10 and ndcg@10 of one model by slice, with `num_users` and `ci95`."""
    return {
        name: {
            label: _blocks({"own": ranks}, mask, resamples=resamples, seed=seed)["own"] for label, mask in parts.items()
        }
        for name, parts in masks.items()
    }


def slices_by_model(
    ranks: Mapping[str, IntArray], masks: Masks, *, resamples: int, seed: int
) -> dict[str, dict[str, dict[str, Any]]]:
    """The same slices with all models side by side: {slice: {label: {"num_users": n, "models": {name: block}}}}."""
    return {
        name: {
            label: {"num_users": int(mask.sum()), "models": _blocks(ranks, mask, resamples=resamples, seed=seed)}
            for label, mask in parts.items()
        }
        for name, parts in masks.items()
    }


def _blocks(
    ranks: Mapping[str, IntArray], mask: npt.NDArray[np.bool_], *, resamples: int, seed: int
) -> dict[str, dict[str, Any]]:
    """One block a model, all models resampled together."""
    values = {
        (model, metric): column
        for model, own in ranks.items()
        for metric, column in by_user(own[mask], [10]).items()
        if metric != "mrr@10"
    }
    limits = intervals(values, resamples=resamples, seed=seed) if resamples else {}
    blocks: dict[str, dict[str, Any]] = {model: {"num_users": int(mask.sum())} for model in ranks}
    for (model, metric), column in values.items():
        blocks[model][metric] = float(column.mean())
        if resamples:
            blocks[model].setdefault("ci95", {})[metric] = limits[model, metric]
    return blocks
