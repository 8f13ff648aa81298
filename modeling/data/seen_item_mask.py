"""Which items a prompt names, and so are no answer to it: what training leaves out as evaluation does.

Enters: a corpus. Leaves: the tokens to leave out of the first step of some rows of a batch.
Trade-off: only for items of one token, which that one step decides; others are trained with the whole vocabulary.

Why: the items of a history are the likeliest answer of a model whose item vectors say who buys what, and no history is
answered by them. With them in the sum the first thing that training learns is to turn these vectors away from
themselves, at the price of what they know (docs/decisions/0027).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from modeling.data.prompt_dataset import Corpus
from modeling.data.ragged import Ragged
from modeling.runtime.devices import moved

FAR_BELOW = -1e4  # a logit whose probability is 0, and whose product with 0 is not undefined


@dataclass(frozen=True)
class LeftOut:
    """What some rows of a batch do not answer with."""

    rows: Tensor
    """(M,) int64: places in the batch, ascending."""
    tokens: Tensor
    """(M,) int64: a token that the row's first step leaves out."""


def ask_for_another(corpus: Corpus) -> npt.NDArray[np.bool_]:
    """(N,) which rows are answered by one identifier token that their source does not name."""
    sources, targets = corpus.sources, corpus.targets
    first = targets.values[targets.offsets[:-1]]
    among = np.zeros(len(sources), bool)
    among[sources.owners[sources.values == np.repeat(first, sources.lengths)]] = True
    found: npt.NDArray[np.bool_] = corpus.is_one_item(np.arange(len(corpus))) & ~among
    return found


class NamedItems:
    """The items named by the rows of one corpus that ask for another one (a list to choose from names the answer)."""

    def __init__(self, corpus: Corpus) -> None:
        sources = corpus.sources
        named = np.isin(sources.values, corpus.tokens.identifier_ids)
        self._named = sources.keep(named & ask_for_another(corpus)[sources.owners])

    def of(self, rows: npt.NDArray[np.int64], device: torch.device) -> LeftOut | None:
        """For a batch of `rows` of the corpus; None where there is nothing to leave out."""
        named: Ragged = self._named.take(rows)
        if not len(named.values):
            return None
        owners, tokens = (torch.from_numpy(part.astype(np.int64)) for part in (named.owners, named.values))
        return LeftOut(moved(owners, device), moved(tokens, device))


def leave_out(logits: Tensor, rows: Tensor, left_out: LeftOut) -> Tensor:
    """`logits` (N, V) of the target tokens of `rows` (N,), ascending, changed in place at each row's first token."""
    return logits.index_put_((torch.searchsorted(rows, left_out.rows), left_out.tokens), logits.new_full((), FAR_BELOW))
