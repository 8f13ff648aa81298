"""Runs all baselines of an evaluation: counting, content-based, ridge regression (EASE) and SASRec.

Reads the tables of an evaluation and the users that its prompts ranked; returns ranks per task and baseline, and
whether SASRec is undertrained. Each baseline scores a user once; the same scores are ranked over the whole catalogue
and over each candidate list.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from jaxtyping import Float32, Int64

from features.runtime.stage import Context
from modeling.baselines import counting as base
from modeling.baselines.content import nearest, title_bm25
from modeling.baselines.sasrec import Trained, train_sasrec
from modeling.collaborative.ease import ridge_scorer
from modeling.config.evaluate import Params
from modeling.data.prompt_dataset import PhotoTable
from modeling.data.ragged import Ragged
from modeling.data.title_vocabulary import items_by_word
from modeling.data.user_histories import UserHistories
from modeling.metrics.ranking import by_user

DIRECT = ("direct", "direct_popular", "direct_whole")
REFERENCE_HR10 = {"toys": 0.090, "beauty": 0.085}
"""HR@10 that a fully trained SASRec reaches at least (published: .0970 on Toys, .0921 on Beauty)."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """Item content that baselines use: titles and photos."""

    titles: list[str | None]
    """Titles of items 1 to I."""
    title_vectors: Float32[np.ndarray, "I F"]
    """Title embeddings of items 1 to I."""
    photos: PhotoTable


@dataclass(frozen=True, kw_only=True)
class BaselineRanks:
    """Ranks of every baseline, and the users they belong to, ascending."""

    sequential_users: Int64[np.ndarray, "N"]
    direct_users: Int64[np.ndarray, "M"]
    ranks: Mapping[str, Mapping[str, Int64[np.ndarray, "_"]]]
    """Ranks by task (sequential, direct, direct_popular, direct_whole) and baseline."""
    notes: Mapping[str, Any]
    """Training notes by baseline: whether it is undertrained (`fair` is false), and why."""

    def aligned(self, task: str, user_ids: Int64[np.ndarray, "U"]) -> dict[str, Int64[np.ndarray, "U"]]:
        """Returns ranks by baseline in the order of `user_ids`."""
        users = self.sequential_users if task == "sequential" else self.direct_users
        places = np.searchsorted(users, user_ids)
        return {name: ranks[places] for name, ranks in self.ranks[task].items()}


@runtime_checkable
class BaselineInputs(Protocol):
    """Tables that baselines read, such as the `Inputs` of an evaluation."""

    @property
    def interactions(self) -> pa.Table:
        """`sequences/interactions`."""

    @property
    def histories(self) -> UserHistories:
        """Known items and test items."""

    @property
    def popular(self) -> Ragged:
        """Row u: popularity-sampled candidates of user u, the test item first."""

    @property
    def content(self) -> Content:
        """Titles and photos."""


def score_baselines(
    inputs: BaselineInputs,
    params: Params,
    context: Context,
    *,
    users: Mapping[str, Int64[np.ndarray, "_"]],
    candidates: Int64[np.ndarray, "U C"],
) -> BaselineRanks:
    """Ranks all baselines on the users and candidates that the prompts ranked.

    Args:
        inputs: tables of the evaluation.
        params: `recent_share`, `sasrec` and `ridge`; the ridge regression is skipped if the catalogue exceeds its
            `max_items`.
        context: the seed of all random draws, and the dataset's name, for the reference HR@10 of SASRec.
        users: by family (sequential, direct), the users that its prompts ranked, ascending.
        candidates: items that the direct prompts list for the direct users, ascending, padded with 0.
    """
    histories, content = inputs.histories, inputs.content
    num_items = len(content.titles)
    scorers = base.plain_scorers(
        histories, inputs.interactions, num_items=num_items, recent_share=params.recent_share, seed=context.seed
    ) | content_scorers(histories, content)
    if params.ridge is not None and params.ridge.allows(num_items):
        scorers["ridge"] = ridge_scorer(histories, items_by_word(content.titles), num_items, params.ridge)
    trained = None
    if params.sasrec is not None:
        trained = train_sasrec(histories, num_items, params.sasrec, seed=context.seed, titles=content.titles)
        scorers["sasrec"] = trained.scorer
    lists = {
        "direct": candidates,
        "direct_popular": inputs.popular.padded(users["direct"], fill=0).astype(np.int64),
    }
    ranks: dict[str, dict[str, Int64[np.ndarray, "_"]]] = {task: {} for task in ("sequential", *DIRECT)}
    for name, scorer in scorers.items():
        for task, task_ranks in _ranked(scorer, histories, users, lists, num_items).items():
            ranks[task][name] = task_ranks
    ranks["sequential"]["number_rule"] = base.number_rule_ranks(histories, users["sequential"])
    notes = (
        {}
        if trained is None
        else {"sasrec": undertraining_note(trained, context.dataset, ranks["sequential"]["sasrec"])}
    )
    return BaselineRanks(sequential_users=users["sequential"], direct_users=users["direct"], ranks=ranks, notes=notes)


def content_scorers(histories: UserHistories, content: Content) -> dict[str, base.Scorer]:
    """Returns the content-based scorers by name; those without any content are omitted."""
    photos = content.photos
    titled = np.array([bool(title) for title in content.titles]) & content.title_vectors.any(1)
    scorers = {
        "title_bm25": title_bm25(histories, content.titles),
        "title_embedding": nearest(histories, content.title_vectors, titled),
        "photo_embedding": nearest(histories, photos.features[1:], photos.present[1:]),
    }
    return {name: scorer for name, scorer in scorers.items() if scorer is not None}


def _ranked(
    scorer: base.Scorer,
    histories: UserHistories,
    users: Mapping[str, Int64[np.ndarray, "_"]],
    lists: Mapping[str, Int64[np.ndarray, "U _"]],
    num_items: int,
) -> dict[str, Int64[np.ndarray, "_"]]:
    """Returns ranks by task; each user is scored once."""
    all_users = np.union1d(users["sequential"], users["direct"])
    rows_of = {name: np.searchsorted(users["direct"], all_users) for name in lists}
    in_direct = np.isin(all_users, users["direct"])
    whole_ranks = np.zeros(len(all_users), np.int64)
    candidate_ranks = {name: np.zeros(len(all_users), np.int64) for name in lists}
    for start in range(0, len(all_users), base.BLOCK):
        part = slice(start, start + base.BLOCK)
        block = all_users[part]
        scores = scorer(block)
        for name, candidates in lists.items():
            has_candidates = in_direct[part]
            candidate_ranks[name][part][has_candidates] = base.ranks_among(
                lambda _, has_candidates=has_candidates, scores=scores: scores[has_candidates],  # type: ignore[misc]
                block[has_candidates],
                histories.targets[block[has_candidates]],
                candidates[rows_of[name][part][has_candidates]],
                num_items,
            )
        whole_ranks[part] = base.ranks_among_unseen(lambda _, scores=scores: scores, histories, block, num_items)  # type: ignore[misc]
    positions = {task: np.searchsorted(all_users, task_users) for task, task_users in users.items()}
    return {
        "sequential": whole_ranks[positions["sequential"]],
        "direct_whole": whole_ranks[positions["direct"]],
        **{name: ranks[positions["direct"]] for name, ranks in candidate_ranks.items()},
    }


def undertraining_note(trained: Trained, dataset: str, ranks: Int64[np.ndarray, "N"]) -> dict[str, Any]:
    """Returns whether SASRec is undertrained, and why.

    SASRec is fully trained (`fair`) if early stopping on the valid split ended its training and, on a dataset in
    `REFERENCE_HR10`, its HR@10 (whole catalogue, seen items masked) reaches the reference.
    """
    reasons = []
    if trained.stopped != "no better":
        limit = {"epochs": "epochs", "max_seconds": "seconds"}[trained.stopped]
        reasons.append(f"training ended at its limit of {limit} while the valid split still rose")
    hit_rate = float(by_user(ranks, [10])["hr@10"].mean()) if len(ranks) else 0.0
    if hit_rate < REFERENCE_HR10.get(dataset, 0.0):
        reasons.append(f"HR@10 {hit_rate:.4f} is below the {REFERENCE_HR10[dataset]:.3f} that it reaches elsewhere")
    best = max(trained.curve, key=lambda row: row["ndcg@10"], default={})
    return {
        "fair": not reasons,
        "why_not": reasons,
        "epochs": len(trained.curve),
        "valid": best,
        "start": trained.start,
    }
