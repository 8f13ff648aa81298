"""Initialises item embeddings by spectral embeddings of the train interactions and, optionally, title words.

Reads train interactions, identifiers and the token embeddings; sets the rows of identifier tokens.
The SASRec baseline uses the same initialisation, for a fair comparison (docs/decisions/0025). Photos and interactions
after the train split are not used.
"""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor

from features.errors import ParamsError
from modeling.collaborative.spectral import spectral_embeddings
from modeling.data.ragged import Ragged
from modeling.data.tokenizer import IDENTIFIER, VIP5Tokenizer


def init_item_embeddings(
    table: Float[Tensor, "V D"],
    tokens: VIP5Tokenizer,
    texts: Sequence[str],
    train: Ragged,
    *,
    rms: float,
    seed: int,
    words: Ragged | None = None,
) -> int:
    """Sets the rows of `table` that belong to identifier tokens and returns their number.

    A token that several items share (a code) is initialised with the normalised mean of their vectors.

    Args:
        table: token embeddings, changed in place.
        tokens: the tokenizer, including identifiers.
        texts: the identifier of item i + 1, as prompts contain it.
        train: row u holds the train items of user u, from 1.
        rms: root mean square of the values of a row.
        seed: seed of the decomposition.
        words: row w holds the items whose titles contain word w; None ignores titles.

    Raises:
        ParamsError: identifiers are plain numbers without tokens of their own.
    """
    owners, rows = _item_tokens(tokens, texts)
    if not len(rows):
        raise ParamsError(
            "pretrain.item_embedding_init: spectral or titles with identifiers without tokens of their own",
            "random, or an identifiers.scheme other than number", "change one of them",
        )  # fmt: skip
    vectors = spectral_embeddings(train, len(texts), table.shape[1], seed=seed, words=words)
    sums = np.zeros((int(rows.max()) + 1, table.shape[1]), np.float32)
    np.add.at(sums, rows, vectors[owners])
    token_ids = np.unique(rows)
    unit = sums[token_ids] / np.maximum(np.linalg.norm(sums[token_ids], axis=1, keepdims=True), 1e-12)
    with torch.no_grad():
        table[torch.from_numpy(token_ids)] = torch.from_numpy(unit * rms * table.shape[1] ** 0.5).to(table)
    return len(token_ids)


def _item_tokens(tokens: VIP5Tokenizer, texts: Sequence[str]) -> tuple[Int64[np.ndarray, "N"], Int64[np.ndarray, "N"]]:
    """Pairs of an item's row and a token id of its identifier."""
    pairs = [
        (row, tokens.tokenizer.token_to_id(name)) for row, text in enumerate(texts) for name in IDENTIFIER.findall(text)
    ]
    flat = np.array(pairs, np.int64).reshape(-1, 2)
    return flat[:, 0], flat[:, 1]
