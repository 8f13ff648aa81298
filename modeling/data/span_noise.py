"""Next-item prompts whose words are partly taken away or replaced while a model trains, so that it learns no wording.

Enters: a corpus. Leaves: the same corpus whose next-item prompts lack some stretches of words (what stands before the
first item, between two, or behind the last one) and have random words in place of others.
Trade-off: drawn once a run and not anew each epoch, so that a corpus stays flat arrays and its lengths are known.

Why: a T5 leans on the words and the distances that it has seen. Where every wording that it trains on ends in a
question, it reads the answer there, and a wording that ends in an item is answered worse than before training
(docs/decisions/0027).
"""

import copy
from dataclasses import replace

import numpy as np

from features.runtime.seeds import rng
from modeling.data.prompt_dataset import Corpus
from modeling.data.seen_item_mask import ask_for_another


def with_word_noise(corpus: Corpus, share: float, *, seed: int, stage: str) -> Corpus:
    """A corpus that shares all but its sources; `share` of the stretches of words are not as they were in these.

    Args:
        corpus: rows that do not ask for an item that they do not name keep all words.
        share: probability that a stretch is changed; half of these are left out, the others become random words.
        seed: draws them, together with `stage`.
        stage: such as "train".
    """
    sources, generator = corpus.sources, rng(seed, stage, "word noise")
    is_word = np.zeros(corpus.tokens.size, bool)
    is_word[corpus.tokens.word_ids] = is_word[corpus.tokens.unk_id] = True
    words = is_word[sources.values] & ask_for_another(corpus)[sources.owners]
    begins = np.ones(len(words), bool)  # a stretch: neighbours of one row that are both words, or both not
    begins[1:] = words[1:] != words[:-1]
    begins[sources.offsets[:-1][sources.lengths > 0]] = True
    drawn = generator.random(int(begins.sum()))[np.cumsum(begins) - 1]  # one number a stretch
    kept = ~words | (drawn >= share / 2)
    other = generator.choice(corpus.tokens.word_ids, len(words))
    changed = copy.copy(corpus)
    changed.sources = replace(sources, values=np.where(words & (drawn < share), other, sources.values)).keep(kept)
    changed.words = corpus.words.keep(kept)
    return changed
