"""Item vectors fitted to a teacher before a T5 trains: what a T5 that starts `recent` will answer by.

Enters: item vectors to begin from, the train purchases, a ridge regression. Leaves: vectors whose product with the mean
of a history's vectors, brought to length 1, is the logit of the next item.
Trade-off: Adam on the vectors alone, several times cheaper an example than the same through a T5; the vectors of a
hundred numbers cannot hold all of a matrix of I x I, which is why the fit asks for odds and not for the matrix.
"""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from features.runtime.progress import Progress
from features.runtime.seeds import rng
from modeling.collaborative.ease import Ridge, decayed_sums
from modeling.data.ragged import IntArray, Ragged
from modeling.runtime.devices import moved

_NEWEST = 5  # items of a history that count
_FADES = 0.5  # weight of an item beside the one after it: between what the start `recent` makes of one and two words
_ROWS = 256  # histories a step, and as many single items
_RATE, _WARM_UP = 5e-3, 20  # of Adam, for vectors of length 1
_SCALE = 6.0  # logit of a perfect match at first
_NEVER = -1e4


def fit_vectors(vectors: Tensor, train: Ragged, ridge: Ridge, *, steps: int, seed: int) -> Tensor:
    """(I, D) the fitted vectors; their lengths say how far an item is from being answered at all.

    Args:
        vectors: (I, D), of which directions count.
        train: row u: the train items of user u, from 1, oldest first.
        ridge: the teacher.
        steps: of Adam, each with 512 histories: train histories cut at random, and single items.
        seed: draws them.
    """
    device = ridge.weights.device
    fitted = F.normalize(vectors.float().to(device), dim=1).requires_grad_(True)
    scale = torch.tensor(float(np.log(_SCALE)), device=device, requires_grad=True)
    adam = torch.optim.Adam([fitted, scale], fused=True)
    users = np.flatnonzero(train.lengths > 1)
    generator = rng(seed, "taught vectors")
    with Progress(steps, "item vectors", "steps") as bar:
        for step in range(steps):
            for group in adam.param_groups:
                group["lr"] = _RATE * min(1.0, (step + 1) / _WARM_UP) * (1 - step / steps)
            loss = _loss(fitted, scale, _histories(train, users, len(vectors), generator), ridge)
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            adam.step()
            bar.update()
    with torch.no_grad():
        return (fitted * scale.exp()).to(vectors.device)


def _histories(train: Ragged, users: IntArray, num_items: int, generator: np.random.Generator) -> Ragged:
    """Train histories cut at random, newest items only, and single items."""
    chosen = generator.choice(users, _ROWS) if len(users) else users
    cuts = 1 + (generator.random(len(chosen)) * (train.lengths[chosen] - 1)).astype(np.int64)
    rows = [train.row(int(user))[:cut][-_NEWEST:] for user, cut in zip(chosen, cuts, strict=True)]
    return Ragged.from_rows([*rows, *generator.integers(1, num_items + 1, (_ROWS, 1))], np.int64)


def _loss(vectors: Tensor, scale: Tensor, histories: Ragged, ridge: Ridge) -> Tensor:
    """Mean cross-entropy of the answers to the teacher's odds, items of the history left out."""
    with torch.no_grad():
        odds = ridge.odds(histories, np.arange(len(histories)))
    sums = decayed_sums(F.normalize(vectors, dim=1), histories, _FADES)
    logits = F.normalize(sums, dim=1) @ (vectors * scale.exp()).T
    own = (moved(torch.from_numpy(part), vectors.device) for part in (histories.owners, histories.values - 1))
    logits = logits.index_put(tuple(own), torch.tensor(_NEVER, device=vectors.device))
    return -(odds * logits.log_softmax(1)).sum(1).mean()
