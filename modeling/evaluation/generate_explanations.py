"""Generates explanations for the test split and compares them with the sentences that users wrote.

Reads a model, tokenised explanation prompts and the table `explanations`; returns rows of `explanations_generated` and
their metrics. Decoding is greedy: deterministic and faster than beam search.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.runtime.progress import Progress
from modeling.config.evaluate import Params
from modeling.data.length_batching import plan_batches
from modeling.data.prompt_dataset import PromptDataset
from modeling.decoding.constrained_search import greedy_decode
from modeling.metrics.text import text_metrics
from modeling.models.vip5 import VIP5
from modeling.runtime.devices import autocast

IntArray = npt.NDArray[np.int64]
Features = dict[tuple[int, int, str], list[str]]


@dataclass(frozen=True, kw_only=True)
class Explanations:
    """The rows of one evaluated explanation prompt."""

    rows: IntArray
    """Row numbers in the dataset."""
    generated: list[str]
    references: list[str]
    user_ids: IntArray
    item_ids: IntArray
    """The reviewed item; 0 if the prompt shows no photo of it."""


def features_of(explanations: pa.Table) -> Features:
    """Returns feature words by (user, item, sentence)."""
    features: Features = defaultdict(list)
    columns = [explanations[name].to_pylist() for name in ("user_id", "item_id", "sentence", "feature")]
    for user, item, sentence, feature in zip(*columns, strict=True):
        features[user, item, sentence].append(feature)
    return dict(features)


def explain_prompt(
    model: VIP5, dataset: PromptDataset, rows: IntArray, *, params: Params, label: str, bar: Progress
) -> Explanations:
    """Generates one greedy sentence of at most `explanation_max_tokens` tokens (</s> included) for each of `rows`."""
    device, max_tokens = next(model.parameters()).device, params.explanation_max_tokens
    generated = [""] * len(rows)
    bar.show(label)
    for indices in plan_batches(dataset.lengths[rows], dataset.targets.lengths[rows], batch_size=params.batch_size):
        batch = dataset.batch(rows[indices], device)
        with autocast(device, params.dtype):
            tokens = greedy_decode(model, batch, max_tokens=max_tokens, eos_id=dataset.tokens.eos_id)
        for index, ids in zip(indices, tokens, strict=True):
            generated[index] = dataset.tokens.decode(ids.tolist())
        bar.update(len(indices))
    return Explanations(
        rows=rows,
        generated=generated,
        references=dataset.target_texts.take(pa.array(rows)).to_pylist(),
        user_ids=dataset.user_ids[rows].astype(np.int64),
        item_ids=last_images(dataset, rows),
    )


def explanation_block(explanations: Explanations, features: Features, *, resamples: int, seed: int) -> dict[str, Any]:
    """Returns metrics of one prompt, in percent; `feature_match` counts sentences with the reference's feature word."""
    keys = zip(explanations.user_ids.tolist(), explanations.item_ids.tolist(), explanations.references, strict=True)
    words: Sequence[Sequence[str]] = [features.get(key, []) for key in keys]
    return text_metrics(explanations.generated, explanations.references, words, resamples=resamples, seed=seed)


def last_images(dataset: PromptDataset, rows: IntArray) -> npt.NDArray[np.int64]:
    """Returns (N,) the last item whose photo each row shows; 0 if it shows none."""
    images = dataset.image_ids.padded(rows, fill=0).astype(np.int64)
    lengths = dataset.image_ids.lengths[rows]
    if not images.shape[1]:
        return np.zeros(len(rows), np.int64)
    return np.where(lengths > 0, images[np.arange(len(rows)), np.maximum(lengths - 1, 0)], 0)
