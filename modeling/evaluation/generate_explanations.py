"""Generates explanations for the test split and compares them with the sentences that users wrote.

Reads a model, tokenised explanation prompts and the table `explanations`; returns rows of `explanations_generated` and
their metrics. Sentences consist of words only, and contain the feature word that their prompt names. The first rule
does not hold under unconstrained decoding, the second not with `require_feature: false`; the paper has neither.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from features.prompts.rendering import plain
from features.runtime.progress import Progress
from features.runtime.seeds import stable_hash
from modeling.config.evaluate import Params, SentenceParams
from modeling.data.length_batching import plan_batches
from modeling.data.prompt_dataset import Batch, PromptDataset
from modeling.data.tokenizer import VIP5Tokenizer
from modeling.decoding.sampled_sentences import sample_sentences
from modeling.decoding.sentence_beams import SentenceVocabulary, decode_sentences
from modeling.metrics.text import medoid, text_metrics
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
    features: list[list[str]]
    """All feature words of each reference."""
    hints: list[str]
    """The feature word that the prompt names, otherwise the first one; "" without any."""


def features_of(explanations: pa.Table) -> Features:
    """Returns feature words by (user, item, sentence), as prompts show them; item 0 stands for any item."""
    features: Features = defaultdict(list)
    columns = [explanations[name].to_pylist() for name in ("user_id", "item_id", "sentence", "feature")]
    for user, item, sentence, feature in zip(*columns, strict=True):
        for known in (item, 0):
            features[user, known, plain(sentence)].append(plain(feature))
    return dict(features)


def explain_prompt(
    model: VIP5,
    dataset: PromptDataset,
    rows: IntArray,
    *,
    features: Features,
    names_feature: bool,
    params: Params,
    label: str,
    bar: Progress,
) -> Explanations:
    """Generates one sentence for each of `rows`, by the rules in `params.explanations`.

    Args:
        model: VIP5, or the backbone with a text-only dataset.
        dataset: test prompts.
        rows: (N,) rows of one prompt.
        features: feature words by user, item and sentence.
        names_feature: whether the prompt names the feature word.
        params: decoding, batching and precision.
        label: name of the prompt in the progress bar.
        bar: the progress bar to advance.
    """
    references = dataset.target_texts.take(pa.array(rows)).to_pylist()
    user_ids, item_ids = dataset.user_ids[rows].astype(np.int64), last_images(dataset, rows)
    words = [features.get(key, []) for key in zip(user_ids.tolist(), item_ids.tolist(), references, strict=True)]
    sources = dataset.source_texts.take(pa.array(rows)).to_pylist()
    hints = [hint_of(source, own) for source, own in zip(sources, words, strict=True)]
    bar.show(label)
    return Explanations(
        rows=rows,
        generated=_sentences(model, dataset, rows, hints if names_feature else None, params=params, bar=bar),
        references=references,
        user_ids=user_ids,
        item_ids=item_ids,
        features=words,
        hints=hints,
    )


def hint_of(source: str, words: Sequence[str]) -> str:
    """Returns the first of `words` that occurs in a prompt as a whole word, otherwise the first one; "" without any.

    Example:
        >>> hint_of("Say something about the price .", ["sound", "price"])
        'price'
    """
    named = (word for word in words if re.search(_whole_word(word), source))
    return next(named, words[0] if words else "")


def required_words(
    tokens: VIP5Tokenizer, vocabulary: SentenceVocabulary, hints: Sequence[str], *, max_tokens: int
) -> list[list[int]]:
    """Returns the tokens of each hint; none for a word with an unknown letter, or one too long for a sentence."""
    encoded = {hint: tokens.encode([hint])[0].input_ids[:-1].tolist() for hint in dict.fromkeys(hints)}
    allowed = vocabulary.allowed.tolist()
    possible = {
        hint: ids if all(allowed[token] for token in ids) and len(ids) < max_tokens and tokens.unk_id not in ids else []
        for hint, ids in encoded.items()
    }
    return [possible[hint] for hint in hints]


def _sentences(
    model: VIP5, dataset: PromptDataset, rows: IntArray, hints: Sequence[str] | None, *, params: Params, bar: Progress
) -> list[str]:
    """Returns one sentence for each of `rows`, in their order; with the hints, if they are given and required."""
    device, settings, tokens = next(model.parameters()).device, params.explanations, dataset.tokens
    vocabulary = SentenceVocabulary.of(tokens, model, words_only=params.decoding == "constrained")
    required: list[list[int]] = [[] for _ in rows]
    if hints is not None and settings.require_feature:
        required = required_words(tokens, vocabulary, hints, max_tokens=settings.max_tokens)
    generated = [""] * len(rows)
    for indices in plan_batches(dataset.lengths[rows], dataset.targets.lengths[rows], batch_size=params.batch_size):
        batch = dataset.batch(rows[indices], device)
        with autocast(device, params.dtype):
            found = decode_sentences(
                model, batch, vocabulary,
                beams=settings.beams, min_tokens=settings.min_tokens, max_tokens=settings.max_tokens,
                length_exponent=settings.length_exponent, forbid_repeated_pairs=settings.forbid_repeated_pairs,
                required=[required[index] for index in indices],
            )  # fmt: skip
            sampled = _samples(model, batch, vocabulary, settings, stable_hash("samples", *rows[indices].tolist()))
        for index, ids, others in zip(indices, found, sampled, strict=True):
            beam, *candidates = (tokens.decode(one.tolist()) for one in (ids, *others))
            word = "" if hints is None or not settings.require_feature else hints[index]
            candidates = [beam, *(text for text in candidates if contains_word(text, word))]
            generated[index] = candidates[medoid(candidates, pairs=True)] if len(candidates) > 1 else candidates[0]
        bar.update(len(indices))
    return generated


def _samples(
    model: VIP5, batch: Batch, vocabulary: SentenceVocabulary, settings: SentenceParams, seed: int
) -> npt.NDArray[np.int64]:
    """Returns `settings.samples` sampled sentences per row, (B, N, T)."""
    if not settings.samples:
        return np.zeros((len(batch), 0, 0), np.int64)
    return sample_sentences(
        model, batch, vocabulary, samples=settings.samples, temperature=settings.temperature,
        min_tokens=settings.min_tokens, max_tokens=settings.max_tokens,
        generator=torch.Generator(batch.input_ids.device).manual_seed(seed % 2**63),
    )  # fmt: skip


def contains_word(text: str, word: str) -> bool:
    """Returns whether `text` contains `word` as a whole word, ignoring case; any text contains the word "".

    Example:
        >>> contains_word("The Lid is good.", "lid"), contains_word("Lids", "lid")
        (True, False)
    """
    return not word or re.search(_whole_word(word), text, re.IGNORECASE) is not None


def _whole_word(word: str) -> str:
    """A regular expression for `word` that is no part of another word."""
    return rf"(?<!\w){re.escape(word)}(?!\w)"


def explanation_block(explanations: Explanations, *, resamples: int, seed: int) -> dict[str, Any]:
    """Returns metrics of one prompt, in percent; `feature_match` counts sentences with the reference's feature word."""
    return text_metrics(
        explanations.generated, explanations.references, explanations.features, resamples=resamples, seed=seed
    )


def last_images(dataset: PromptDataset, rows: IntArray) -> npt.NDArray[np.int64]:
    """Returns (N,) the last item whose photo each row shows; 0 if it shows none."""
    images = dataset.image_ids.padded(rows, fill=0).astype(np.int64)
    lengths = dataset.image_ids.lengths[rows]
    if not images.shape[1]:
        return np.zeros(len(rows), np.int64)
    return np.where(lengths > 0, images[np.arange(len(rows)), np.maximum(lengths - 1, 0)], 0)
