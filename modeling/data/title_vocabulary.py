"""The words of titles, as numbers: what BM25 compares, and what joins items that no buyer has in common.

Enters: titles. Leaves: words by item, or items by word. Trade-off: a word is a run of letters and digits in lower case;
nothing is stemmed, because titles are names.
"""

import re
from collections.abc import Sequence

import numpy as np

from modeling.data.ragged import Ragged, offsets_of

COMMON = 0.05  # share of the titles; a word in more of them says what the catalogue is about, not the item
_WORD = re.compile(r"[^\W_]+")


def words_of(titles: Sequence[str | None]) -> Ragged:
    """Row i: the words of title i, as often as they stand there; numbered by first appearance.

    Example: ["Red hat", None, "A red, red rose"] -> [0, 1], [], [2, 0, 0, 3]
    """
    numbers: dict[str, int] = {}
    return Ragged.from_rows(
        [[numbers.setdefault(w, len(numbers)) for w in _WORD.findall((title or "").lower())] for title in titles]
    )


def items_by_word(titles: Sequence[str | None]) -> Ragged:
    """A row a word: the items, from 1, whose titles have it; words of one title only, or of too many, are left out."""
    words = words_of(titles)
    owner = np.repeat(np.arange(1, len(titles) + 1), words.lengths)
    pairs = np.unique(np.stack([words.values.astype(np.int64), owner], 1), axis=0)
    counts = np.bincount(pairs[:, 0])
    telling = (counts >= 2) & (counts <= COMMON * len(titles))
    return Ragged(pairs[telling[pairs[:, 0]], 1], offsets_of(counts[telling]))
