"""Distils a ridge regression into the item embeddings before the T5 is trained, for `init: recency`.

Reads initial item embeddings, train interactions and a ridge regression; returns embeddings whose product with the
normalised mean of a history's embeddings is the logit of the next item.
Trade-off: training the embeddings alone costs a fraction of training them through the T5. Embeddings of width 100
cannot represent the I x I matrix, so they are fitted to the teacher's probabilities instead of its weights.
"""

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from features.runtime.progress import Progress
from features.runtime.seeds import rng
from modeling.collaborative.ease import Ridge, decayed_sums
from modeling.data.ragged import Ragged
from modeling.runtime.devices import to_device

_NEWEST = 5  # newest items of a history that are used
_DECAY = 0.5  # weight of an item relative to the next newer one, close to that of `init: recency`
_ROWS = 256  # histories per step, and the same number of single items
_RATE, _WARM_UP = 5e-3, 20  # learning rate of Adam for unit vectors, and warm-up steps
_SCALE = 6.0  # initial logit of a perfect match
_MASKED = -1e4


def distill_item_embeddings(
    vectors: Float[Tensor, "I D"], train: Ragged, ridge: Ridge, *, steps: int, seed: int
) -> Float32[Tensor, "I D"]:
    """Fits item embeddings to the teacher; returns embeddings with lengths that act as popularity biases.

    Args:
        vectors: initial embeddings; only their directions are used.
        train: row u holds the train items of user u, from 1, oldest first.
        ridge: the teacher.
        steps: steps of Adam, each with 512 histories: train histories cut at random, and single items.
        seed: determines the sampled histories.
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


def _histories(train: Ragged, users: Int64[np.ndarray, "N"], num_items: int, generator: np.random.Generator) -> Ragged:
    """Samples train histories cut at random, newest items only, and single items."""
    chosen = generator.choice(users, _ROWS) if len(users) else users
    cuts = 1 + (generator.random(len(chosen)) * (train.lengths[chosen] - 1)).astype(np.int64)
    rows = [train.row(int(user))[:cut][-_NEWEST:] for user, cut in zip(chosen, cuts, strict=True)]
    return Ragged.from_rows([*rows, *generator.integers(1, num_items + 1, (_ROWS, 1))], np.int64)


def _loss(
    vectors: Float[Tensor, "I D"], scale: Float[Tensor, ""], histories: Ragged, ridge: Ridge
) -> Float[Tensor, ""]:
    """Mean cross-entropy to the teacher's probabilities, with items of the history masked."""
    with torch.no_grad():
        probabilities = ridge.probabilities(histories, np.arange(len(histories)))
    sums = decayed_sums(F.normalize(vectors, dim=1), histories, _DECAY)
    logits = F.normalize(sums, dim=1) @ (vectors * scale.exp()).T
    seen = (to_device(torch.from_numpy(part), vectors.device) for part in (histories.owners, histories.values - 1))
    logits = logits.index_put(tuple(seen), torch.tensor(_MASKED, device=vectors.device))
    return -(probabilities * logits.log_softmax(1)).sum(1).mean()
