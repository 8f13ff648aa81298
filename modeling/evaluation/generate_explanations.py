"""Generated explanations of the test split: greedy sentences beside what the users wrote.

Enters: a model, tokenised explanation prompts, the `explanations` table. Leaves: rows of `explanations_generated` and
their metrics. Trade-off: greedy sentences, one each, quick and the same in every run, instead of the likeliest ones
that beams would find.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.runtime.progress import Progress
from modeling.data.length_batching import plan_batches
from modeling.data.prompt_dataset import PromptDataset
from modeling.decoding.constrained_search import greedy_decode
from modeling.metrics.text import text_metrics
from modeling.models.vip5 import VIP5

IntArray = npt.NDArray[np.int64]
Features = dict[tuple[int, int, str], list[str]]


@dataclass(frozen=True, kw_only=True)
class Explanations:
    """The rows of one evaluated explanation prompt."""

    rows: IntArray
    """Rows of the corpus."""
    generated: list[str]
    references: list[str]
    user_ids: IntArray
    item_ids: IntArray
    """The item spoken of; 0 where the prompt shows no photo of it."""


def features_of(explanations: pa.Table) -> Features:
    """Feature words by (user, item, sentence)."""
    found: Features = defaultdict(list)
    columns = [explanations[name].to_pylist() for name in ("user_id", "item_id", "sentence", "feature")]
    for user, item, sentence, feature in zip(*columns, strict=True):
        found[user, item, sentence].append(feature)
    return dict(found)


def explain_prompt(
    model: VIP5, corpus: PromptDataset, rows: IntArray, *, batch_size: int, max_tokens: int, label: str, bar: Progress
) -> Explanations:
    """One greedy sentence of at most `max_tokens` tokens (</s> included) for each of `rows`."""
    generated = [""] * len(rows)
    bar.show(label)
    for places in plan_batches(corpus.lengths[rows], corpus.targets.lengths[rows], batch_size=batch_size):
        batch = corpus.batch(rows[places], next(model.parameters()).device)
        tokens = greedy_decode(model, batch, max_tokens=max_tokens, eos_id=corpus.tokens.eos_id)
        for place, ids in zip(places, tokens, strict=True):
            generated[place] = corpus.tokens.decode(ids.tolist())
        bar.update(len(places))
    return Explanations(
        rows=rows,
        generated=generated,
        references=corpus.target_texts.take(pa.array(rows)).to_pylist(),
        user_ids=corpus.user_ids[rows].astype(np.int64),
        item_ids=last_images(corpus, rows),
    )


def explanation_block(found: Explanations, features: Features, *, resamples: int, seed: int) -> dict[str, Any]:
    """Metrics of one prompt, in percent; `feature_match` counts sentences with the reference's feature word."""
    keys = zip(found.user_ids.tolist(), found.item_ids.tolist(), found.references, strict=True)
    words: Sequence[Sequence[str]] = [features.get(key, []) for key in keys]
    return text_metrics(found.generated, found.references, words, resamples=resamples, seed=seed)


def last_images(corpus: PromptDataset, rows: IntArray) -> npt.NDArray[np.int64]:
    """(N,) the last item whose photo each row shows; 0 where it shows none."""
    images = corpus.image_ids.padded(rows, fill=0).astype(np.int64)
    lengths = corpus.image_ids.lengths[rows]
    if not images.shape[1]:
        return np.zeros(len(rows), np.int64)
    return np.where(lengths > 0, images[np.arange(len(rows)), np.maximum(lengths - 1, 0)], 0)
