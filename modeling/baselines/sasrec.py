"""SASRec baseline with a softmax loss, trained in the same run on the same train split.

Reads train items per user in time order and each user's valid item; returns a `Scorer` and the training curve. A causal
transformer predicts the next item at every position (Kang and McAuley 2018) by a softmax over cosine similarities with
item embeddings that are also its inputs (loss: Klenitskiy and Vasilev 2023). Item embeddings are initialised from a
spectral decomposition of the purchases, which saves dozens of epochs on a CPU (docs/decisions/0020).
"""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from torch import Tensor, nn

from features.runtime.progress import Progress
from features.runtime.seeds import rng
from modeling.baselines.counting import Scorer
from modeling.collaborative.spectral import spectral_embeddings
from modeling.config.sasrec import SasRecParams
from modeling.data.length_batching import plan_batches
from modeling.data.ragged import Ragged
from modeling.data.title_vocabulary import items_by_word
from modeling.data.user_histories import UserHistories
from modeling.metrics.ranking import by_user
from modeling.runtime.random_state import seeded

log = logging.getLogger("vip5")
_BLOCK = 256  # users per ranking block


class SasRec(nn.Module):
    """Causal transformer over item ids, oldest first, padded with 0 on the right."""

    def __init__(self, params: SasRecParams, num_items: int) -> None:
        super().__init__()
        self.params = params
        self.items = nn.Embedding(num_items + 1, params.width, padding_idx=0)
        self.places = nn.Parameter(torch.zeros(params.max_history, params.width))
        self.blocks = nn.ModuleList(_Block(params) for _ in range(params.num_blocks))
        self.norm = nn.LayerNorm(params.width)
        self.dropout = nn.Dropout(params.embedding_dropout)
        nn.init.normal_(self.items.weight, std=params.width**-0.5)

    def forward(self, histories: Int64[Tensor, "B T"]) -> Float[Tensor, "B T D"]:
        """Returns unit vectors that predict the item after each position."""
        vectors = self.items(histories) + self.places[: histories.shape[1]]
        hidden = self.dropout(vectors * self.params.width**0.5)
        for block in self.blocks:
            hidden = block(hidden)
        return F.normalize(self.norm(hidden), dim=-1)

    def directions(self, item_ids: Int64[Tensor, "N"]) -> Float[Tensor, "N D"]:
        """Returns unit item embeddings divided by the temperature."""
        return F.normalize(self.items(item_ids), dim=-1) / self.params.temperature


class _Block(nn.Module):
    """Pre-norm causal attention and a feed-forward layer; the block is the identity at initialisation."""

    def __init__(self, params: SasRecParams) -> None:
        super().__init__()
        width, self.num_heads = params.width, params.num_heads
        self.before_attention, self.before_forward = nn.LayerNorm(width), nn.LayerNorm(width)
        self.project, self.mix = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.inner, self.outer = nn.Linear(width, width), nn.Linear(width, width)
        self.dropout = nn.Dropout(params.dropout)
        for layer in (self.mix, self.outer):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, hidden: Float[Tensor, "B T D"]) -> Float[Tensor, "B T D"]:
        """Applies attention and the feed-forward layer."""
        rows, length, width = hidden.shape
        projected = self.project(self.before_attention(hidden)).view(rows, length, 3, self.num_heads, -1)
        query, keys, values = projected.permute(2, 0, 3, 1, 4)  # (B, H, T, W) each
        mixed = F.scaled_dot_product_attention(query, keys, values, is_causal=True).transpose(1, 2)
        hidden = hidden + self.dropout(self.mix(mixed.reshape(rows, length, width)))
        added: Tensor = self.outer(torch.relu(self.inner(self.before_forward(hidden))))
        moved: Tensor = hidden + self.dropout(added)
        return moved


@dataclass(frozen=True, kw_only=True)
class Trained:
    """A trained SASRec."""

    scorer: Scorer
    curve: list[dict[str, float]]
    """One row per epoch: epoch, loss, valid hr@10 and ndcg@10."""
    stopped: Literal["no better", "epochs", "max_seconds"]
    """Why training ended; "no better" means early stopping, the others that a limit was reached first."""
    start: str
    """Initialisation of the item embeddings: spectral, titles or random."""


def train_sasrec(
    histories: UserHistories, num_items: int, params: SasRecParams, *, seed: int, titles: Sequence[str | None] = ()
) -> Trained:
    """Trains on the train split with early stopping on the valid split.

    The returned scorer reads all items known before the test item.

    Args:
        histories: train items, and the items known before the test item; the newest of these is the valid item.
        num_items: number of items in the catalogue.
        params: model size and training parameters.
        seed: seed of weights, order, dropout, negatives and the valid users.
        titles: titles of items 1 to I, used if `params.start` is `titles`.
    """
    started = time.monotonic()
    with seeded(seed, "sasrec"):
        model = _started_model(histories, num_items, params, seed, titles)
        optimiser = torch.optim.AdamW(
            model.parameters(), params.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
        )
        windows = histories.train.newest(params.max_history + 1)
        valid_users = _valid_users(histories, params, seed)
        best, best_weights, curve = (-1.0, 0), _copy(model), []
        stopped: Literal["no better", "epochs", "max_seconds"] = "epochs"
        with Progress(params.epochs, "baseline SASRec", "epochs at most", limit=params.max_seconds) as bar:
            for epoch in range(1, params.epochs + 1):
                loss = _epoch(model, optimiser, windows, num_items, rng(seed, "sasrec", epoch))
                curve.append({"epoch": epoch, "loss": loss} | _validated(model, histories, valid_users, num_items))
                bar.update()
                if curve[-1]["ndcg@10"] > best[0]:
                    best, best_weights = (curve[-1]["ndcg@10"], epoch), _copy(model)
                if epoch - best[1] >= params.patience:
                    stopped = "no better"
                    break
                if params.max_seconds is not None and time.monotonic() - started > params.max_seconds:
                    stopped = "max_seconds"
                    break
    model.load_state_dict(best_weights)
    seconds = time.monotonic() - started
    log.info("sasrec: valid NDCG@10 %.4f in epoch %d of %d, %.0f s, ended by: %s", *best, len(curve), seconds, stopped)
    scorer = scorer_of(model, histories.known, num_items)
    return Trained(scorer=scorer, curve=curve, stopped=stopped, start=params.start)


def scorer_of(model: SasRec, known: Ragged, num_items: int) -> Scorer:
    """Returns a scorer of all items given the newest `known` items of each user."""
    windows = known.newest(model.params.max_history)
    everything = torch.arange(1, num_items + 1)

    @torch.inference_mode()
    def score(user_ids: Int64[np.ndarray, "B"]) -> Float32[np.ndarray, "B I"]:
        model.eval()
        last = torch.from_numpy(np.maximum(windows.lengths[user_ids], 1) - 1)
        width = max(1, int(windows.lengths[user_ids].max(initial=0)))
        rows = torch.from_numpy(windows.padded(user_ids, fill=0, width=width).astype(np.int64))
        expected = model(rows)[torch.arange(len(rows)), last]
        scores: Float32[np.ndarray, "B I"] = (expected @ model.directions(everything).T).numpy()
        return scores

    return score


def _started_model(
    histories: UserHistories, num_items: int, params: SasRecParams, seed: int, titles: Sequence[str | None]
) -> SasRec:
    model = SasRec(params, num_items)
    if params.start != "random":
        words = items_by_word(titles) if params.start == "titles" else None
        vectors = spectral_embeddings(histories.train, num_items, params.width, seed=seed, words=words)
        with torch.no_grad():
            model.items.weight[1:] = torch.from_numpy(vectors)
    return model


def _epoch(
    model: SasRec, optimiser: torch.optim.Optimizer, windows: Ragged, num_items: int, generator: np.random.Generator
) -> float:
    """Trains one epoch over all users with at least two train items; returns the mean loss."""
    users = np.flatnonzero(windows.lengths > 1)
    lengths = windows.lengths[users]
    model.train()
    total = torch.zeros(())
    for indices in plan_batches(lengths, lengths, batch_size=model.params.batch_size, generator=generator):
        rows = torch.from_numpy(windows.padded(users[indices], fill=0).astype(np.int64))
        is_target = rows[:, 1:] > 0
        loss = _loss(model, model(rows[:, :-1])[is_target], rows[:, 1:][is_target], num_items, generator)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimiser.step()
        total += loss.detach() * is_target.sum()
    return float(total / max(int((lengths - 1).sum()), 1))


def _loss(
    model: SasRec,
    expected: Float[Tensor, "N D"],
    targets: Int64[Tensor, "N"],
    num_items: int,
    generator: np.random.Generator,
) -> Float[Tensor, ""]:
    """Returns the mean cross-entropy of `targets` over all items, or over sampled negatives."""
    count = model.params.num_negatives
    if count is None or count >= num_items:
        return F.cross_entropy(expected @ model.directions(torch.arange(1, num_items + 1)).T, targets - 1)
    sampled = torch.from_numpy(generator.integers(1, num_items + 1, count))
    others = (expected @ model.directions(sampled).T).masked_fill(sampled == targets[:, None], -torch.inf)
    target_scores = (expected * model.directions(targets)).sum(1, keepdim=True)
    return F.cross_entropy(torch.cat([target_scores, others], 1), torch.zeros_like(targets))


def _valid_users(histories: UserHistories, params: SasRecParams, seed: int) -> Int64[np.ndarray, "U"]:
    users = np.flatnonzero(histories.known.lengths > histories.train.lengths)
    users = users[histories.train.lengths[users] > 0]
    sampled = rng(seed, "sasrec", "valid users").permutation(users)[: params.valid_users]
    return np.sort(sampled).astype(np.int64)


def _validated(
    model: SasRec, histories: UserHistories, users: Int64[np.ndarray, "U"], num_items: int
) -> dict[str, float]:
    """Returns hr@10 and ndcg@10 of the valid items of `users`, with train items masked."""
    scorer = scorer_of(model, histories.train, num_items)
    ranks = []
    for start in range(0, len(users), _BLOCK):
        part = users[start : start + _BLOCK]
        scores = scorer(part)
        known, train = histories.known.take(part), histories.train.take(part)
        target = known.values[known.offsets[1:] - 1][:, None] - 1
        target_scores = np.take_along_axis(scores, target, 1)
        scores[train.owners, train.values - 1] = -np.inf
        ranks.append(1 + (scores > target_scores).sum(1))
    values = by_user(np.concatenate([np.zeros(0, np.int64), *ranks]), [10])
    return {name: float(values[name].mean()) if len(values[name]) else 0.0 for name in ("hr@10", "ndcg@10")}


def _copy(model: nn.Module) -> dict[str, Any]:
    return {name: value.clone() for name, value in model.state_dict().items()}
