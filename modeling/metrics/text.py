"""Metrics of generated explanations: word BLEU-4, ROUGE, diversity and feature match.

Reads generated and reference sentences; returns percentages with 95 % intervals. BLEU is from sacrebleu and ROUGE from
torchmetrics (the numbers of rouge-score), so they are comparable with other work.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64

from modeling.data.title_vocabulary import words_of
from modeling.metrics.bootstrap import interval, resampled_means

_ROUGE = ("rouge1", "rouge2", "rougeL")


def text_metrics(
    generated: Sequence[str],
    references: Sequence[str],
    features: Sequence[Sequence[str]] | None = None,
    *,
    resamples: int,
    seed: int,
) -> dict[str, Any]:
    """Returns all metrics of one prompt, in percent, with 95 % intervals over sentences.

    Args:
        generated: sentences, in the order of `references`.
        references: one reference per generated sentence.
        features: feature words of each reference, for `feature_match`; None omits it.
        resamples: bootstrap resamples; 0 omits the intervals.
        seed: seed of the bootstrap.

    Example: a generated list equal to its references has bleu4 = 100 and rougeL = 100 (sentences of 4 words or more).
    """
    metrics: dict[str, Any] = {"num_examples": len(generated)}
    if not generated:
        return metrics
    counts = bleu_statistics(generated, references)
    rouge = rouge_by_sentence(generated, references)
    metrics["bleu4"] = bleu_of(counts.sum(0))
    metrics |= {name: float(values.mean()) for name, values in rouge.items()}
    metrics |= {f"distinct{n}": distinct(generated, n) for n in (1, 2)}
    metrics["distinct_sentences"] = 100 * len(set(generated)) / len(generated)
    metrics["empty"] = 100 * sum(not text.strip() for text in generated) / len(generated)
    metrics["mean_words"] = float(np.mean([len(text.split()) for text in generated]))
    if features is not None:
        metrics["feature_match"] = feature_match(generated, features)
    if resamples:
        columns = np.concatenate([counts, np.stack(list(rouge.values()), 1)], axis=1)
        means = resampled_means(columns, resamples=resamples, seed=seed)
        width = counts.shape[1]
        totals = np.rint(means[:, :width] * len(generated))
        metrics["ci95"] = {"bleu4": interval(np.array([bleu_of(row) for row in totals]))}
        metrics["ci95"] |= {name: interval(means[:, width + i]) for i, name in enumerate(rouge)}
        if features is not None:
            named = features_named(generated, features)[:, None]
            metrics["ci95"]["feature_match"] = interval(resampled_means(named, resamples=resamples, seed=seed))
    return metrics


def bleu_statistics(generated: Sequence[str], references: Sequence[str]) -> Float64[np.ndarray, "N 10"]:
    """Returns per sentence: matched 1- to 4-grams, all 1- to 4-grams, length, reference length (words)."""
    from sacrebleu.metrics.bleu import BLEU

    scorer = BLEU(effective_order=True)
    rows = []
    for text, reference in zip(generated, references, strict=True):
        score = scorer.sentence_score(text, [reference])
        rows.append([*score.counts, *score.totals, score.sys_len, score.ref_len])
    return np.array(rows, np.float64)


def bleu_of(totals: Float64[np.ndarray, "10"]) -> float:
    """Returns corpus BLEU-4 (sacrebleu, 13a tokens, exponential smoothing) of summed `bleu_statistics`, in percent."""
    from sacrebleu.metrics.bleu import BLEU

    counts = [int(value) for value in totals]
    return float(
        BLEU.compute_bleu(counts[:4], counts[4:8], counts[8], counts[9], smooth_method="exp", max_ngram_order=4).score
    )


def rouge_by_sentence(generated: Sequence[str], references: Sequence[str]) -> dict[str, Float64[np.ndarray, "N"]]:
    """Returns the F-measure of ROUGE-1, ROUGE-2 and ROUGE-L per sentence, in percent (no stemming)."""
    from torchmetrics.functional.text import rouge_score

    pairs = zip(generated, references, strict=True)
    scores = [rouge_score(text, reference, rouge_keys=_ROUGE) for text, reference in pairs]
    return {name: np.array([100 * float(score[f"{name}_fmeasure"]) for score in scores], np.float64) for name in _ROUGE}


def distinct(texts: Sequence[str], n: int) -> float:
    """Returns distinct word n-grams divided by all word n-grams, in percent (Li et al. 2016).

    Example:
        >>> distinct(["a b", "a b"], 1)
        50.0
    """
    grams = [gram for text in texts for gram in _grams(text.split(), n)]
    return 100 * len(set(grams)) / len(grams) if grams else 0.0


def feature_match(texts: Sequence[str], features: Sequence[Sequence[str]]) -> float:
    """Returns the percentage of texts that contain one of their feature words; texts without feature words are skipped.

    Example:
        >>> feature_match(["the price is low", "nice"], [["price"], ["sound"]])
        50.0
    """
    named = features_named(texts, features)
    return float(named.mean()) if len(named) else 0.0


def features_named(texts: Sequence[str], features: Sequence[Sequence[str]]) -> Float64[np.ndarray, "N"]:
    """Returns 100 for a text with one of its feature words as a whole word, else 0; skips texts without such words."""
    matches = []
    for text, words in zip(texts, features, strict=True):
        if words:
            spaced = "".join(c if c.isalnum() else " " for c in text.lower())
            sentence = f" {' '.join(spaced.split())} "
            matches.append(100.0 * any(f" {word.lower()} " in sentence for word in words))
    return np.array(matches, np.float64)


def _grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]


def medoid(sentences: Sequence[str], *, pairs: bool = False) -> int:
    """Index of the sentence with the highest mean Dice coefficient of word sets to all others; the first of equals.

    Args:
        sentences: at least one.
        pairs: whether pairs of successive words count beside the words.

    Example:
        >>> medoid(["what a day", "the lid is good", "the lid is nice"])
        1
    """
    words = words_of(sentences)
    names = words.values.astype(np.int64)
    owners, elements = words.owners, names
    if pairs and len(names):
        together = words.owners[1:] == words.owners[:-1]
        pair = (1 + names[:-1][together]) * (names.max() + 1) + names[1:][together]
        owners, elements = np.append(owners, words.owners[1:][together]), np.append(elements, pair)
    _, elements = np.unique(elements, return_inverse=True)
    present = np.zeros((len(sentences), int(elements.max(initial=0)) + 1), np.float32)
    present[owners, elements] = 1
    sizes = present.sum(1)
    dice = 2 * (present @ present.T) / np.maximum(sizes[:, None] + sizes, 1)
    return int((dice.sum(1) - dice.diagonal()).argmax())
