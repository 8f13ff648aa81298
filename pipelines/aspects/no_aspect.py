"""Finds the parameters of `explanations` with which a category without an aspect has one.

Reads the noun counts of the first pass. Returns what the user can set.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from pipelines.aspects.config import Params


def remedy(counts: Iterable[Mapping[str, Mapping[str, int]]], params: Params, num_train: int) -> str:
    """The thresholds with which the noun with most opinions is an aspect.

    Args:
        counts: Counts of `two_passes.frequent_aspects`.
        params: Parameters with which no noun is an aspect.
        num_train: Train reviews with a text and a rating.

    Example:
        9 of 5,000 reviews have "tone", 5 with an opinion, min_review_share 0.002 ->
        'set explanations.min_review_share to 0.0017 (the aspect "tone")'
    """
    total = {name: Counter[str]() for name in ("reviews", "opinions", "titles")}
    for bucket in counts:
        for name, counter in total.items():
            counter.update(bucket[name])
    usable = [
        (opinions, total["reviews"][noun], noun)
        for noun, opinions in total["opinions"].items()
        if opinions and total["titles"][noun] <= params.max_title_share * total["reviews"][noun]
    ]
    if not usable:
        return "add reviews: none has an opinion on a part or property of its item"
    opinions, reviews, noun = max(usable)
    enough = {
        "min_reviews": reviews,
        "min_review_share": _below(reviews / num_train),
        "min_opinion_share": _below(opinions / reviews),
    }
    lower = [f"explanations.{name} to {value:g}" for name, value in enough.items() if value < getattr(params, name)]
    return f'set {" and ".join(lower)} (the aspect "{noun}")'


def _below(share: float) -> float:
    """The next smaller number of four digits: products of the share itself may be rounded up."""
    return max(math.ceil(share * 10_000 - 1), 0) / 10_000
