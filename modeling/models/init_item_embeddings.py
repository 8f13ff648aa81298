"""Where the token vectors of items start: what their buyers (and titles) have in common, instead of noise.

Enters: the train split's purchases, the identifiers, the fresh token table, items by title word on request. Leaves: the
rows of identifier tokens set.
Trade-off: a rival (SASRec) gets the same start in the same run, so that a lead over it is not a lead in start
(docs/decisions/0025). Photos play no part here; no purchase after the train split does either.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from features.errors import ParamsError
from modeling.collaborative.spectral import item_vectors
from modeling.data.ragged import Ragged
from modeling.data.tokenizer import IDENTIFIER, Tokens


def start_items(
    table: Tensor,
    tokens: Tokens,
    texts: Sequence[str],
    train: Ragged,
    *,
    spread: float,
    seed: int,
    words: Ragged | None = None,
) -> int:
    """Sets the rows of `table` that belong to identifier tokens and returns their number.

    A token that several items share (a code) starts as the mean of their vectors, brought to the same length.

    Args:
        table: (V, D) the token embeddings, changed in place.
        tokens: the vocabulary, identifiers included.
        texts: the identifier of item i + 1 as a prompt writes it.
        train: row u: the train items of user u, from 1.
        spread: root mean square of the numbers of such a row.
        seed: of the decomposition.
        words: row w: the items whose titles have word w; None leaves titles out.

    Raises:
        ParamsError: identifiers are written as plain numbers, so no token belongs to items.
    """
    owners, rows = _owned(tokens, texts)
    if not len(rows):
        raise ParamsError(
            "pretrain.item_vectors: spectral or titles where identifiers have no tokens of their own",
            "random, or another identifiers.scheme than number", "change one of them",
        )  # fmt: skip
    vectors = item_vectors(train, len(texts), table.shape[1], seed=seed, words=words)
    sums = np.zeros((int(rows.max()) + 1, table.shape[1]), np.float32)
    np.add.at(sums, rows, vectors[owners])
    found = np.unique(rows)
    unit = sums[found] / np.maximum(np.linalg.norm(sums[found], axis=1, keepdims=True), 1e-12)
    with torch.no_grad():
        table[torch.from_numpy(found)] = torch.from_numpy(unit * spread * table.shape[1] ** 0.5).to(table)
    return len(found)


def _owned(tokens: Tokens, texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Pairs of an item's row and the id of a token in its identifier."""
    pairs = [
        (row, tokens.tokenizer.token_to_id(name)) for row, text in enumerate(texts) for name in IDENTIFIER.findall(text)
    ]
    flat = np.array(pairs, np.int64).reshape(-1, 2)
    return flat[:, 0], flat[:, 1]
