"""Joins the features that several encoders give the same photos.

Reads the cached outcomes and features of each encoder. Returns one of each: a photo is used only if every encoder could
use it.
"""

from collections.abc import Sequence

import numpy as np

from features.store.embeddings import unit_rows
from features.vision.image_loader import Found


def joined(each: Sequence[Found], *, normalise: bool) -> Found:
    """The features of every digest side by side, in the order of `each`; that of one encoder alone is left as it is.

    Every part is scaled to length 1, so that an encoder of large numbers does not outweigh the others.

    Args:
        each: Outcomes and features of the same digests, one per encoder.
        normalise: Whether to scale the whole to length 1.

    Example:
        [3, 4] and [0, 2] become [.6, .8, 0, 1], and with `normalise` that divided by the square root of 2.
    """
    first = each[0]
    if len(each) == 1:
        return first
    digests = sorted(first.rows)
    places = [[one.rows[digest] for digest in digests] for one in each]
    vectors = np.hstack([unit_rows(one.vectors[rows]) for one, rows in zip(each, places, strict=True)])
    outcomes = []
    for rows in zip(*places, strict=True):
        of_photo = [one.outcomes[row] for one, row in zip(each, rows, strict=True)]
        outcomes.append(next((outcome for outcome in of_photo if outcome.rejection), of_photo[0]))
    return Found(
        rows={digest: row for row, digest in enumerate(digests)},
        outcomes=outcomes,
        vectors=(unit_rows(vectors) if normalise else vectors).astype(np.float32),
    )
