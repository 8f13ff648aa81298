"""Next-item prompts that lose some of their words while a model trains, so that it learns not to hang on the wording.

Enters: a corpus. Leaves: the same corpus whose next-item prompts lack some stretches of words: what stands before the
first item, between two, or behind the last one.
Trade-off: drawn once a run and not anew each epoch, so that a corpus stays flat arrays and its lengths are known.

Why: a T5 knows distances. Where every wording that it trains on ends in a few words, it unlearns to look at an item
right before the end, and a wording that ends in an item is answered worse than before training
(docs/decisions/0026).
"""

import copy

import numpy as np

from features.seeds import rng
from modeling.batches import Corpus
from modeling.named_items import ask_for_another


def without_some_words(corpus: Corpus, share: float, *, seed: int, stage: str) -> Corpus:
    """A corpus that shares all but its sources; `share` of the stretches of words are left out of these.

    Args:
        corpus: rows that do not ask for an item that they do not name keep all words.
        share: probability that a stretch is left out.
        seed: draws them, together with `stage`.
        stage: such as "train".
    """
    sources = corpus.sources
    words = np.zeros(corpus.tokens.size, bool)
    words[corpus.tokens.word_ids] = True
    loses = words[sources.values] & ask_for_another(corpus)[sources.owners]
    begins = np.ones(len(loses), bool)  # a stretch: neighbours of one row that are both words, or both not
    begins[1:] = loses[1:] != loses[:-1]
    begins[sources.offsets[:-1][sources.lengths > 0]] = True
    stretch = np.cumsum(begins) - 1
    lost = rng(seed, stage, "word dropout").random(int(begins.sum())) < share
    kept = ~(loses & lost[stretch])
    fewer = copy.copy(corpus)
    fewer.sources, fewer.words = sources.keep(kept), corpus.words.keep(kept)
    return fewer
