"""The catalogue as token sequences that a model can generate.

Reads `identifiers` and a tokenizer; returns the identifier texts, their prefix tree and the item of each text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from features.errors import TableError
from modeling.data.tokenizer import VIP5Tokenizer
from modeling.decoding.prefix_tree import PrefixTree, build_tree

_MAX_TOKENS = 64


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Items as token sequences that the model can generate."""

    texts: Sequence[str]
    """Identifier texts of items 1 to I."""
    tree: PrefixTree
    item_of: Mapping[str, int]
    """Item id by identifier text."""

    @property
    def num_items(self) -> int:
        """Number of items in the catalogue."""
        return len(self.texts)


def catalogue_of(identifiers: pa.Table, tokens: VIP5Tokenizer) -> Catalogue:
    """Builds the catalogue and its prefix tree from `identifiers` (item_id, text), which must hold items 1 to I.

    Raises:
        TableError: an item id is missing or repeated.
    """
    texts = identifiers["text"].to_pylist()
    if identifiers["item_id"].to_pylist() != list(range(1, len(texts) + 1)):
        raise TableError(
            "identifiers with gaps in item_id", "items 1 to I, each once", "run `.venv/bin/dvc repro identifiers`"
        )
    sequences = [ids[:-1].tolist() for ids in tokens.encode_targets(texts, _MAX_TOKENS)]
    tree = build_tree(sequences, eos_id=tokens.eos_id)
    return Catalogue(texts=texts, tree=tree, item_of={text: item for item, text in enumerate(texts, start=1)})
