"""Maps title words to integers, for BM25 and for item embeddings.

Reads titles; returns the words of each item, or the items of each word. A word is a lower-case run of letters and
digits; words are not stemmed, because titles are names.
"""

import re
from collections.abc import Sequence

import numpy as np

from modeling.data.ragged import Ragged, offsets_of

COMMON = 0.05  # maximum share of the titles; more frequent words do not distinguish items
_WORD = re.compile(r"[^\W_]+")


def words_of(titles: Sequence[str | None]) -> Ragged:
    """Row i holds the words of title i, with repetitions, numbered by first appearance.

    Example: ["Red hat", None, "A red, red rose"] -> [0, 1], [], [2, 0, 0, 3]
    """
    numbers: dict[str, int] = {}
    return Ragged.from_rows(
        [[numbers.setdefault(w, len(numbers)) for w in _WORD.findall((title or "").lower())] for title in titles]
    )


def items_by_word(titles: Sequence[str | None]) -> Ragged:
    """Row w holds the items, from 1, whose titles contain word w; words of one title or of too many are dropped."""
    words = words_of(titles)
    owner = np.repeat(np.arange(1, len(titles) + 1), words.lengths)
    pairs = np.unique(np.stack([words.values.astype(np.int64), owner], 1), axis=0)
    counts = np.bincount(pairs[:, 0])
    informative = (counts >= 2) & (counts <= COMMON * len(titles))
    return Ragged(pairs[informative[pairs[:, 0]], 1], offsets_of(counts[informative]))
