"""Drops or replaces text spans of next-item prompts in training, as augmentation for held-out prompts.

Reads a prompt dataset; returns a copy in which some spans (the text before, between or after items) are removed and
others consist of random tokens.
Trade-off: the noise is drawn once per run instead of once per epoch, so that sequence lengths are known in advance.

Why: a T5 relies on the words and distances seen in training. If all training prompts end in a question, the model
answers a held-out prompt that ends in an item worse than before training (docs/decisions/0027).
"""

import copy
from dataclasses import replace

import numpy as np

from features.runtime.seeds import rng
from modeling.data.prompt_dataset import PromptDataset
from modeling.data.seen_item_mask import targets_unseen_item


def with_span_noise(corpus: PromptDataset, rate: float, *, seed: int, stage: str) -> PromptDataset:
    """Returns a copy of `corpus` with noisy sources; all other arrays are shared.

    Args:
        corpus: only rows whose target is an unseen item are changed.
        rate: probability that a span is changed; half of these spans are dropped, the others become random tokens.
        seed: determines the noise, together with `stage`.
        stage: such as "train".
    """
    sources, generator = corpus.sources, rng(seed, stage, "word noise")
    is_word = np.zeros(corpus.tokens.size, bool)
    is_word[corpus.tokens.word_ids] = is_word[corpus.tokens.unk_id] = True
    words = is_word[sources.values] & targets_unseen_item(corpus)[sources.owners]
    begins = np.ones(len(words), bool)  # a span: adjacent tokens of one row that are all text, or all not
    begins[1:] = words[1:] != words[:-1]
    begins[sources.offsets[:-1][sources.lengths > 0]] = True
    drawn = generator.random(int(begins.sum()))[np.cumsum(begins) - 1]  # one number per span
    kept = ~words | (drawn >= rate / 2)
    other = generator.choice(corpus.tokens.word_ids, len(words))
    changed = copy.copy(corpus)
    changed.sources = replace(sources, values=np.where(words & (drawn < rate), other, sources.values)).keep(kept)
    changed.words = corpus.words.keep(kept)
    return changed
