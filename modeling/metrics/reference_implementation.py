"""Metrics of the reference implementation of VIP5, for comparison with published results.

Reads generated strings or sentences and their targets; returns the values that its evaluation notebooks compute. They
differ from `ranking` and `text`: a repeated number keeps its last rank, BLEU counts characters instead of words, and
ROUGE counts distinct n-grams and weights recall by precision / recall.
"""

import math
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np

_METRICS = {"hit": "hr", "recall": "recall", "precision": "precision", "ndcg": "ndcg", "map": "map", "mrr": "mrr"}


def paper_ranking_block(
    strings: Sequence[Sequence[str]], targets: Sequence[int], cutoffs: Sequence[int]
) -> dict[str, Any]:
    """Returns hr, recall, precision, ndcg, map and mrr at each cutoff, averaged over users, and user counts.

    The reference implementation stops at a user whose strings include no integer. Here the metrics of such a user are
    0, and `num_users_without_number` counts them.

    Args:
        strings: generated strings per user, best first.
        targets: number of each user's test item.
        cutoffs: the values of k.

    Example: one user with strings ["12", "7", "12"] and target 12 -> "hr@1" 0.0 (7 is first), "mrr@5" 0.5.
    """
    scores = dict(enumerate(map(paper_scores, strings)))
    relevant = {user: [target] for user, target in enumerate(targets) if scores[user]}
    block: dict[str, Any] = {}
    for k in cutoffs:
        means = paper_mean(scores, relevant, k) if relevant else dict.fromkeys(_METRICS, 0.0)
        share = len(relevant) / max(len(targets), 1)
        block |= {f"{_METRICS[name]}@{k}": share * value for name, value in means.items()}
    return block | {"num_users": len(targets), "num_users_without_number": len(targets) - len(relevant)}


def paper_text_block(generated: Sequence[str], references: Sequence[str]) -> dict[str, Any]:
    """Returns BLEU-1 and BLEU-4 of characters and the nine ROUGE means, in percent; only the count without sentences.

    Example: {"num_examples": 1, "bleu1": 43.5, "bleu4": 15.3, "rouge_1/f_score": 15.4, "rouge_1/r_score": ...}
    """
    block: dict[str, Any] = {"num_examples": len(generated)}
    if not generated:
        return block
    alternatives = [[reference] for reference in references]
    bleu = {f"bleu{n}": 100 * paper_bleu(alternatives, generated, order=n)[0] for n in (1, 4)}
    return block | bleu | paper_rouge(generated, references)


def paper_scores(strings: Sequence[str]) -> dict[int, int]:
    """Returns {number: -position} of the strings that are integers; a repeated number keeps its last position.

    Example:
        >>> paper_scores(["12", "x", "7", "12"])
        {12: -4, 7: -3}
    """
    scores: dict[int, int] = {}
    for position, text in enumerate(strings, start=1):
        try:
            number = int(text)
        except ValueError:
            continue
        scores[number] = -position
    return scores


def paper_dcg(relevance: Sequence[float], k: int, *, variant: int = 1) -> float:
    """Returns the discounted cumulative gain with weights 1/log2(rank + 1), or 1, 1, 1/log2(3), ... for variant 0."""
    rows = relevance[:k]
    if variant == 1:
        return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(rows, start=1))
    return sum(gain / (1.0 if rank == 1 else math.log2(rank)) for rank, gain in enumerate(rows, start=1))


def paper_ndcg(relevance: Sequence[float], k: int, *, variant: int = 1) -> float:
    """Returns DCG divided by the DCG of the same list in its best order (not of all relevant items)."""
    best = paper_dcg(sorted(relevance, reverse=True), k, variant=variant)
    return paper_dcg(relevance, k, variant=variant) / best if best else 0.0


def paper_average_precision(relevance: Sequence[float]) -> float:
    """Returns the mean precision at the ranks of the relevant items; 0 without any."""
    ranks = [rank for rank, gain in enumerate(relevance, start=1) if gain]
    return sum(found / rank for found, rank in enumerate(ranks, start=1)) / len(ranks) if ranks else 0.0


def paper_reciprocal_rank(relevance: Sequence[float]) -> float:
    """Returns 1 / rank of the first relevant item; 0 without any."""
    return next((1.0 / rank for rank, gain in enumerate(relevance, start=1) if gain), 0.0)


def paper_user(ranked: Sequence[int], relevant: Collection[int]) -> dict[str, float]:
    """Returns the reference metrics for one user's ranked list, already truncated to k items.

    Raises:
        ValueError: the list is empty (the reference implementation fails too).
    """
    if not ranked:
        raise ValueError("a user without any valid prediction; the reference implementation stops here")
    relevance = [float(item in relevant) for item in ranked]
    return {
        "ndcg": paper_ndcg(relevance, len(ranked)),
        "map": paper_average_precision(relevance),
        "recall": sum(relevance) / len(relevant),
        "precision": sum(relevance) / len(ranked),
        "mrr": paper_reciprocal_rank(relevance),
        "hit": float(any(relevance)),
    }


def paper_mean(
    scores: Mapping[int, Mapping[int, float]], relevant: Mapping[int, Collection[int]], k: int
) -> dict[str, float]:
    """Returns the reference metrics at k, averaged over users; ties keep their order, the reference shuffles them."""
    users = []
    for user, items in relevant.items():
        ranked = sorted(scores[user], key=lambda item, own=scores[user]: -own[item])[:k]  # type: ignore[misc]
        users.append(paper_user(ranked, items))
    return {name: sum(user[name] for user in users) / len(users) for name in users[0]}


def paper_bleu(
    references: Sequence[Sequence[Sequence[str]]],
    hypotheses: Sequence[Sequence[str]],
    *,
    order: int = 4,
    smooth: bool = False,
) -> tuple[float, list[float], float, float, int, int]:
    """Returns the reference corpus BLEU: (bleu, precisions, brevity penalty, ratio, length, reference length).

    Args:
        references: alternative references per sentence. The published notebook passes plain strings, which are
            sequences of characters, so its n-grams are character n-grams.
        hypotheses: one token sequence per sentence.
        order: largest n-gram order.
        smooth: whether to add one to matches and possible matches (Lin and Och 2004).
    """
    matches, possible = [0] * order, [0] * order
    for alternatives, tokens in zip(references, hypotheses, strict=True):
        for n in range(1, order + 1):
            allowed: Counter[tuple[str, ...]] = Counter()
            for reference in alternatives:
                allowed |= Counter(_grams(reference, n))
            ngrams = Counter(_grams(tokens, n))
            matches[n - 1] += sum((ngrams & allowed).values())
            possible[n - 1] += sum(ngrams.values())
    extra = int(smooth)
    precisions = [(m + extra) / (p + extra) if p + extra else 0.0 for m, p in zip(matches, possible, strict=True)]
    mean = math.exp(sum(math.log(p) for p in precisions) / order) if min(precisions) > 0 else 0.0
    length = sum(len(tokens) for tokens in hypotheses)
    expected = sum(min(len(reference) for reference in alternatives) for alternatives in references)
    ratio = length / expected
    penalty = 1.0 if ratio > 1 else (math.exp(1 - 1 / ratio) if ratio else 0.0)
    return mean * penalty, precisions, penalty, ratio, length, expected


def paper_rouge_n(hypothesis: str, reference: str, n: int) -> tuple[float, float, float]:
    """Returns (F, precision, recall) on sets of distinct n-grams of space-separated words."""
    generated, expected = set(_grams(hypothesis.split(" "), n)), set(_grams(reference.split(" "), n))
    overlap = len(generated & expected)
    precision = overlap / len(generated) if generated else 0.0
    recall = overlap / len(expected) if expected else 0.0
    return 2 * precision * recall / (precision + recall + 1e-8), precision, recall


def paper_rouge_l(hypothesis: str, reference: str) -> tuple[float, float, float]:
    """Returns (F, precision, recall) on the longest common subsequence of words, with beta = precision / recall."""
    generated, expected = hypothesis.split(" "), reference.split(" ")
    common = _common_subsequence(generated, expected)
    precision, recall = common / len(generated), common / len(expected)
    beta = precision / (recall + 1e-12)
    score = (1 + beta**2) * recall * precision / (recall + beta**2 * precision + 1e-12)
    return score, precision, recall


def _common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Returns the length of the longest common subsequence; keeps one row of the dynamic-programming table."""
    row = [0] * (len(second) + 1)
    for word in first:
        previous = 0
        for column, other in enumerate(second, start=1):
            above = row[column]
            row[column] = previous + 1 if word == other else max(above, row[column - 1])
            previous = above
    return row[-1]


def paper_rouge(generated: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """Returns the nine ROUGE means of the reference implementation, in percent, under its names."""
    means: dict[str, float] = {}
    for name in ("rouge_1", "rouge_2", "rouge_l"):
        rows = np.array([
            paper_rouge_l(text, reference) if name == "rouge_l" else paper_rouge_n(text, reference, int(name[-1]))
            for text, reference in zip(generated, references, strict=True)
        ])  # fmt: skip
        f, precision, recall = 100 * rows.mean(0)
        means |= {f"{name}/f_score": float(f), f"{name}/r_score": float(recall), f"{name}/p_score": float(precision)}
    return means


def _grams(words: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
