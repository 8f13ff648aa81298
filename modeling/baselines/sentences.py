"""Baselines of the explanation task: sentences of train reviews, chosen without a model.

Reads the table `explanations` and the titles of the catalogue; returns one train sentence for every test row. Two
baselines know nothing of the row (`commonest`, `central`), one knows the item (`nearest_title`), three know the feature
word that the prompt names (`commonest_of_feature`, `central_of_feature`, `random_of_feature`).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32, Int64

from features.runtime.seeds import rng
from modeling.baselines.content import title_index
from modeling.baselines.counting import BLOCK
from modeling.data.ragged import Ragged
from modeling.metrics.text import medoid

Key = TypeVar("Key")
UNHINTED = ("commonest", "central", "nearest_title")
HINTED = ("commonest_of_feature", "central_of_feature", "random_of_feature")
_MOST = 1000
"""Sentences that are compared pairwise for the central one; more are sampled."""


@dataclass(frozen=True, kw_only=True)
class TrainSentences:
    """Sentences of the train split with their feature words and items."""

    sentences: Sequence[str]
    features: Sequence[str]
    item_ids: Int64[np.ndarray, "N"]

    @classmethod
    def of(cls, explanations: pa.Table) -> "TrainSentences":
        """Selects the train rows of the table `explanations`."""
        train = explanations.filter(pc.equal(explanations["split"], "train"))
        return cls(
            sentences=train["sentence"].to_pylist(),
            features=train["feature"].to_pylist(),
            item_ids=train["item_id"].to_numpy().astype(np.int64),
        )

    def grouped(self, keys: Iterable[Key]) -> dict[Key, list[str]]:
        """Sentences by the key of their row, such as `features`."""
        groups: dict[Key, list[str]] = defaultdict(list)
        for sentence, key in zip(self.sentences, keys, strict=True):
            groups[key].append(sentence)
        return dict(groups)


def sentence_baselines(
    train: TrainSentences, titles: Sequence[str | None], features: Sequence[str], item_ids: Sequence[int], *, seed: int
) -> dict[str, list[str]]:
    """Returns one sentence per test row and baseline; empty without train sentences.

    Args:
        train: sentences of the train split.
        titles: titles of items 1 to I.
        features: feature word of each test row; a word that no train sentence has falls back to all sentences.
        item_ids: item of each test row, from 1.
        seed: seed of the random choices.
    """
    if not train.sentences:
        return {}
    groups = train.grouped(train.features)
    common, middle = commonest(train.sentences), central(train.sentences, seed=seed)
    common_of = {feature: commonest(group) for feature, group in groups.items()}
    middle_of = {feature: central(group, seed=seed) for feature, group in groups.items()}
    generator = rng(seed, "sentence baselines")
    random = [
        group[int(generator.integers(len(group)))] for group in (groups.get(f, train.sentences) for f in features)
    ]
    return {
        "commonest": [common] * len(features),
        "central": [middle] * len(features),
        "nearest_title": nearest_title(train, titles, item_ids),
        "commonest_of_feature": [common_of.get(feature, common) for feature in features],
        "central_of_feature": [middle_of.get(feature, middle) for feature in features],
        "random_of_feature": random,
    }


def commonest(sentences: Sequence[str]) -> str:
    """The most frequent sentence; of equally frequent ones the first in alphabetical order.

    Example:
        >>> commonest(["b c", "a b", "b c"])
        'b c'
    """
    counts = Counter(sentences)
    return min(counts, key=lambda sentence: (-counts[sentence], sentence))


def central(sentences: Sequence[str], *, seed: int) -> str:
    """The sentence with the highest mean Dice coefficient of word sets to all others (a medoid).

    Example:
        >>> central(["the lid is good", "the lid is nice", "what a day"], seed=0)
        'the lid is good'
    """
    chosen = list(sentences)
    if len(chosen) > _MOST:
        chosen = [chosen[int(i)] for i in rng(seed, "central sentences").choice(len(chosen), _MOST, replace=False)]
    return chosen[medoid(chosen)]


def nearest_title(train: TrainSentences, titles: Sequence[str | None], item_ids: Sequence[int]) -> list[str]:
    """The commonest train sentence of each item, or else of the item with the most similar title (BM25).

    For an unknown item (0) it is the commonest sentence of all.
    """
    by_item: dict[int, list[str]] = train.grouped(train.item_ids.tolist())
    known = np.array(sorted(by_item))
    index = title_index(titles)
    nearest: dict[int, int] = {item: item for item in by_item}
    others = np.array(sorted(set(item_ids) - {0, *by_item}), np.int64)
    for block in np.array_split(others, -(-len(others) // BLOCK) or 1):
        scores = np.zeros((len(block), len(known))) if index is None else _scores(index, block)[:, known - 1]
        nearest |= dict(zip(block.tolist(), known[scores.argmax(1)].tolist(), strict=True))
    sentences = {item: commonest(by_item[nearest[item]]) for item in nearest} | {0: commonest(train.sentences)}
    return [sentences[item] for item in item_ids]


def _scores(
    index: Callable[[Ragged], Float32[np.ndarray, "_ _"]], item_ids: Int64[np.ndarray, "N"]
) -> Float32[np.ndarray, "_ _"]:
    return index(Ragged.from_rows([[item] for item in item_ids.tolist()], np.int64))
