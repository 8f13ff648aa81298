"""Compares explanations with sentences of train reviews, chosen without a model.

Reads generated explanations, train sentences and titles; returns one metric block per baseline. The blocks are computed
once for all explanation prompts that ask for the same reviews, and again for a prompt that asks for others.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from modeling.baselines.sentences import HINTED, TrainSentences, sentence_baselines
from modeling.evaluation.generate_explanations import Explanations
from modeling.metrics.text import text_metrics


def reviews_of(explanations: Explanations) -> list[tuple[int, str]]:
    """Returns the reviews of a prompt by user and reference, in ascending order."""
    return sorted(zip(explanations.user_ids.tolist(), explanations.references, strict=True))


def baseline_blocks(
    explanations: Explanations, train: TrainSentences, titles: Sequence[str | None], *, resamples: int, seed: int
) -> dict[str, Any]:
    """Returns text metrics by baseline for the reviews of one prompt; `hinted` if it knows the feature word."""
    if not len(explanations.rows):
        return {}
    chosen = sentence_baselines(train, titles, explanations.hints, explanations.item_ids.tolist(), seed=seed)
    return {
        name: {"hinted": name in HINTED}
        | text_metrics(sentences, explanations.references, explanations.features, resamples=resamples, seed=seed)
        for name, sentences in chosen.items()
    }


def blocks_by_prompt(
    by_prompt: Mapping[str, Explanations],
    train: TrainSentences,
    titles: Sequence[str | None],
    *,
    resamples: int,
    seed: int,
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Returns the blocks that most prompts share, and own ones by prompt for prompts that ask for other reviews."""
    groups: list[tuple[list[tuple[int, str]], list[str]]] = []
    for key, explanations in by_prompt.items():
        reviews = reviews_of(explanations)
        same = next((keys for known, keys in groups if known == reviews), None)
        if same is None:
            groups.append((reviews, [key]))
        else:
            same.append(key)
    groups.sort(key=lambda group: -len(group[1]))
    blocks = [baseline_blocks(by_prompt[keys[0]], train, titles, resamples=resamples, seed=seed) for _, keys in groups]
    own = {key: found for (_, keys), found in zip(groups[1:], blocks[1:], strict=True) for key in keys}
    return blocks[0] if blocks else {}, own
