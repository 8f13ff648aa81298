"""Finds characters of the train sentences that the tokenizer does not know.

Reads tokenised prompts of the family explanation. Logs one line if many tokens are `<unk>`.
Trade-off: only texts that hold an unknown token are searched, and at most 10,000 of them, so that the usual case costs
one comparison per token.
"""

import logging
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features.schema import FAMILIES
from modeling.data.prompt_dataset import PromptDataset
from modeling.data.ragged import Ragged
from modeling.data.tokenizer import IDENTIFIER, PHOTO, VIP5Tokenizer

log = logging.getLogger("vip5")

ALLOWED_SHARE = 0.001
"""Share of unknown tokens up to which nothing is said."""
_MOST_TEXTS, _SHOWN = 10_000, 8


def warn_of_lost_characters(prompts: PromptDataset) -> None:
    """Warns in one line if more than one token in 1,000 of the sources and targets of sentences is unknown."""
    rows_of_sentences = np.flatnonzero(prompts.families == FAMILIES.index("explanation"))
    parts = [
        (texts.take(pa.array(rows_of_sentences)), encoded.take(rows_of_sentences))
        for texts, encoded in ((prompts.source_texts, prompts.sources), (prompts.target_texts, prompts.targets))
    ]
    unknown = sum(int((rows.values == prompts.tokens.unk_id).sum()) for _, rows in parts)
    share = unknown / max(1, sum(len(rows.values) for _, rows in parts))
    if share <= ALLOWED_SHARE:
        return
    texts = {text for column, rows in parts for text in _texts_with_unknown(column, rows, prompts.tokens)}
    lost = lost_characters(texts, prompts.tokens).most_common(_SHOWN)
    log.warning(
        "pretrain: the tokenizer does not know %.1f %% of the tokens of train prompts with sentences; most frequent "
        "lost characters: %s; name another folder in backbone.tokenizer, or null to train one on the prompts",
        100 * share, " ".join(f"{character!r} ({count:,})" for character, count in lost),
    )  # fmt: skip


def lost_characters(texts: Iterable[str], tokens: VIP5Tokenizer) -> Counter[str]:
    """How often each character that the tokenizer does not know occurs in `texts`, apart from identifiers."""
    words = (IDENTIFIER.sub(" ", text.replace(PHOTO, " ")) for text in texts)
    counts = Counter(character for text in words for character in text if not character.isspace())
    encoded = tokens.tokenizer.encode_batch(list(counts), add_special_tokens=False)
    known = {char for char, found in zip(counts, encoded, strict=True) if tokens.unk_id not in found.ids}
    return Counter({character: count for character, count in counts.items() if character not in known})


def _texts_with_unknown(column: pa.ChunkedArray, rows: Ragged, tokens: VIP5Tokenizer) -> list[str]:
    """The first distinct texts whose tokens include an unknown one."""
    found = np.unique(rows.owners[rows.values == tokens.unk_id])
    texts: list[str] = pc.unique(column.take(pa.array(found))).to_pylist()
    return texts[:_MOST_TEXTS]
