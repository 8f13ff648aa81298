"""Ranks items and generates explanations for every user of the evaluated prompts.

Reads a model, tokenised test prompts, the catalogue and the seen items; returns the top items with scores and the rank
of the held-out item in each candidate set. A batch is encoded once and ranked over all candidate sets of its prompt.
Rows are batched by length to limit padding; results are in row order.
"""

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from features.runtime.progress import Progress
from modeling.config.evaluate import Params
from modeling.data.length_batching import plan_batches
from modeling.data.prompt_dataset import PromptDataset
from modeling.data.ragged import Ragged
from modeling.data.user_histories import UserHistories
from modeling.decoding.catalogue import Catalogue
from modeling.decoding.constrained_search import Ranked, rank_catalogue, score_candidates
from modeling.decoding.prefix_tree import PrefixTree
from modeling.decoding.tree_decoder import TreeDecoder
from modeling.decoding.unconstrained_beams import StringCounts, generate_items
from modeling.evaluation.generate_explanations import Explanations, explain_prompt
from modeling.evaluation.inputs import EvaluatedModel, Inputs, rows_by_prompt
from modeling.metrics.ranking import ranks_of
from modeling.models.vip5 import VIP5
from modeling.runtime.devices import autocast

IntArray = npt.NDArray[np.int64]
CandidateSets = Mapping[str, IntArray | None]
"""Candidate sets by name, the main one first: (N, C) item ids padded with 0, or None for all unseen items."""
_LOGIT_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class Rankings:
    """Rankings of one evaluated prompt, in ascending order of user."""

    user_ids: IntArray
    items: IntArray
    """(N, K) item ids, best first, padded with 0."""
    scores: npt.NDArray[np.float32]
    """(N, K) log-probabilities, nats."""
    targets: IntArray
    ranks: IntArray
    """(N,) rank of the target, from 1; 0 if it is not ranked."""
    candidates: IntArray | None = None
    """(N, C) candidates of a direct prompt; None for other prompts."""
    other_candidate_sets: Mapping[str, IntArray] = field(default_factory=dict)
    """(N,) ranks of the target over the sets popular and whole; empty if the prompt lists its candidates."""
    invalid_shares: Mapping[str, float] = field(default_factory=dict)
    """Shares of invalid, repeated and seen outputs; empty under constrained decoding, which has none."""
    strings: Sequence[Sequence[str]] = ()
    """Generated strings per row, best first; empty under constrained decoding or without `paper_metrics`."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """Rankings and explanations of one model on every evaluated prompt."""

    sequential: Mapping[str, Rankings]
    direct: Mapping[str, Rankings]
    explanation: Mapping[str, Explanations] = field(default_factory=dict)


def score_models(models: Sequence[EvaluatedModel], inputs: Inputs, params: Params) -> dict[str, Scores]:
    """Returns the scores of all models by name, computed under one progress bar."""
    total = sum(len(rows) for model in models for _, _, rows in _prompts(model, inputs))
    with Progress(total, "evaluate", "test prompts") as bar:
        return {model.name: _score_model(model, inputs, params, bar) for model in models}


def _prompts(model: EvaluatedModel, inputs: Inputs) -> list[tuple[int, str, IntArray]]:
    """Returns family, key and rows of every prompt that the model is evaluated on."""
    return [
        (family, key, rows)
        for family in ((0, 1, 2) if model.explains else (0, 1))
        for key, rows in rows_by_prompt(model.dataset, family, inputs.users, model.prompts).items()
    ]


def _score_model(model: EvaluatedModel, inputs: Inputs, params: Params, bar: Progress) -> Scores:
    rankings: tuple[dict[str, Rankings], dict[str, Rankings]] = ({}, {})
    explanations: dict[str, Explanations] = {}
    for family, key, rows in _prompts(model, inputs):
        label = f"evaluate, {model.name.replace('_', ' ')} {key}"
        if family < len(rankings):
            rankings[family][key] = rank_prompt(
                model.model, model.dataset, rows, catalogue=inputs.catalogue, histories=inputs.histories, params=params,
                popular=inputs.popular if key.endswith(":history") else None, label=label, bar=bar,
            )  # fmt: skip
        else:
            explanations[key] = explain_prompt(
                model.model, model.dataset, rows, features=inputs.features,
                names_feature="feature" in inputs.given[key], params=params, label=label, bar=bar,
            )  # fmt: skip
    return Scores(sequential=rankings[0], direct=rankings[1], explanation=explanations)


def rank_prompt(
    model: VIP5,
    dataset: PromptDataset,
    rows: IntArray,
    *,
    catalogue: Catalogue,
    histories: UserHistories,
    params: Params,
    label: str,
    popular: Ragged | None = None,
    bar: Progress | None = None,
) -> Rankings:
    """Ranks items for `rows`, which all belong to one evaluated prompt.

    Args:
        model: VIP5, or the backbone with a text-only dataset.
        dataset: test prompts.
        rows: (N,) rows of one prompt.
        catalogue: all items.
        histories: seen items, which are not ranked.
        params: decoding, batching and precision.
        label: name of the prompt in the progress bar.
        popular: row u: popularity-sampled candidates of user u, target included; adds the sets popular and whole.
        bar: a progress bar to advance; None shows a new one.
    """
    constrained = params.decoding == "constrained"
    sets = candidate_sets_of(dataset, rows, popular if constrained else None)
    targets = dataset.target_item_ids[rows].astype(np.int64)
    device = next(model.parameters()).device
    batches, parts = _batches(dataset, rows, params), []
    with nullcontext(bar) if bar is not None else Progress(len(rows), label, "users") as progress:
        progress.show(label)
        for places in batches:
            batch = dataset.batch(rows[places], device)
            seen = histories.seen(dataset.user_ids[rows[places]], catalogue.num_items)
            with autocast(device, params.dtype):
                if constrained:
                    chosen = {name: None if listed is None else listed[places] for name, listed in sets.items()}
                    ranked = rank_candidate_sets(TreeDecoder(model, batch), catalogue.tree, chosen, seen, params)
                    parts.append(_Part.of(ranked, targets[places], params.top_k))
                else:
                    found = generate_items(model, batch, dataset.tokens, catalogue.item_of, seen, beam=params.beam)
                    part = _Part.of(dict.fromkeys(sets, found.ranked), targets[places], params.top_k)
                    parts.append(replace(part, counts=found.counts, strings=found.strings))
            progress.update(len(places))
    main, *others = sets
    listed = sets[main]
    items, scores = _tops(parts, batches, params.top_k if listed is None else min(params.top_k, listed.shape[1]))
    ranks = {name: _in_row_order([part.ranks[name] for part in parts], batches) for name in sets}
    strings = [texts for part in parts for texts in part.strings] if params.paper_metrics else []
    return Rankings(
        user_ids=dataset.user_ids[rows].astype(np.int64),
        items=items,
        scores=scores,
        targets=targets,
        ranks=ranks[main],
        candidates=listed,
        other_candidate_sets={name: ranks[name] for name in others},
        invalid_shares={} if constrained else sum((part.counts for part in parts), StringCounts()).shares(),
        strings=[strings[place] for place in np.argsort(np.concatenate(batches))] if strings else (),
    )


def candidate_sets_of(dataset: PromptDataset, rows: IntArray, popular: Ragged | None) -> CandidateSets:
    """Returns the candidate sets of the rows of one prompt.

    A prompt without candidates has the set whole, all unseen items; one with candidates has the set listed, and with
    `popular` also the sets popular and whole.
    """
    listed = dataset.candidate_ids.padded(rows, fill=0).astype(np.int64)
    if not listed.shape[1]:
        return {"whole": None}
    if popular is None:
        return {"listed": listed}
    return {"listed": listed, "popular": popular.padded(dataset.user_ids[rows], fill=0).astype(np.int64), "whole": None}


def rank_candidate_sets(
    encoded: TreeDecoder, tree: PrefixTree, candidate_sets: CandidateSets, seen: npt.NDArray[np.bool_], params: Params
) -> dict[str, Ranked]:
    """Ranks every candidate set of an encoded batch: lists by exact likelihood, all unseen items by beam search.

    Args:
        encoded: B encoded rows without nodes.
        tree: the identifiers of items 1 to I.
        candidate_sets: (B, C) item ids padded with 0, or None for all unseen items, by name.
        seen: (B, I) whether the user knows item i + 1.
        params: `beam` and `top_k` of the search.
    """
    scores = _score_lists(encoded, tree, {name: ids for name, ids in candidate_sets.items() if ids is not None})
    ranked = {}
    for name, candidates in candidate_sets.items():
        if candidates is None:
            ranked[name] = rank_catalogue(encoded.reset(), tree, ~seen, beam=params.beam, top_k=params.top_k)
        else:
            ranked[name] = _sorted(candidates, scores[name])
    return ranked


def _score_lists(
    encoded: TreeDecoder, tree: PrefixTree, lists: Mapping[str, IntArray]
) -> dict[str, npt.NDArray[np.float32]]:
    """Returns the scores (B, C) of each list; all lists are scored in one pass, so shared prefixes are decoded once."""
    if not lists:
        return {}
    scores = score_candidates(encoded.reset(), tree, np.concatenate(list(lists.values()), 1))
    bounds = np.cumsum([candidates.shape[1] for candidates in lists.values()])[:-1]
    return dict(zip(lists, np.split(scores, bounds, axis=1), strict=True))


def _sorted(candidates: IntArray, scores: npt.NDArray[np.float32]) -> Ranked:
    order = np.argsort(-scores, axis=1, kind="stable")
    return Ranked(np.take_along_axis(candidates, order, 1), np.take_along_axis(scores, order, 1))


@dataclass(frozen=True, kw_only=True)
class _Part:
    """Results of one batch: the best items of the main candidate set, and the target's rank in every set."""

    top: Ranked
    ranks: Mapping[str, IntArray]
    counts: StringCounts = field(default_factory=StringCounts)
    strings: Sequence[Sequence[str]] = ()

    @classmethod
    def of(cls, ranked: Mapping[str, Ranked], targets: IntArray, top_k: int) -> "_Part":
        main = next(iter(ranked.values()))
        ranks = {name: ranks_of(result.items, targets) for name, result in ranked.items()}
        return cls(top=Ranked(main.items[:, :top_k], main.scores[:, :top_k]), ranks=ranks)


def _in_row_order(parts: Sequence[IntArray], batches: Sequence[IntArray]) -> IntArray:
    values = np.zeros(sum(map(len, batches)), np.int64)
    for places, part in zip(batches, parts, strict=True):
        values[places] = part
    return values


def _tops(parts: Sequence[_Part], batches: Sequence[IntArray], width: int) -> tuple[IntArray, npt.NDArray[np.float32]]:
    """Returns items and scores (N, width) of the main candidate set, in row order."""
    items = np.zeros((sum(map(len, batches)), width), np.int64)
    scores = np.full(items.shape, -np.inf, np.float32)
    for places, part in zip(batches, parts, strict=True):
        kept = min(width, part.top.items.shape[1])
        items[places, :kept], scores[places, :kept] = part.top.items[:, :kept], part.top.scores[:, :kept]
    return items, scores


def _batches(dataset: PromptDataset, rows: IntArray, params: Params) -> list[IntArray]:
    """Returns indices into `rows` in length-bucketed batches whose beam logits fit `_LOGIT_BYTES`."""
    size = params.batch_size
    if params.decoding == "unconstrained":
        size = min(size, max(1, _LOGIT_BYTES // (4 * params.beam * dataset.tokens.size)))
    return plan_batches(
        dataset.lengths[rows],
        dataset.targets.lengths[rows],
        batch_size=size,
        tokens_per_batch=params.tokens_per_batch,
    )


def ranked_users(scores: Scores) -> tuple[dict[str, IntArray], IntArray]:
    """Returns the users that the prompts of each ranking family ranked, ascending, and their listed candidates.

    The candidates (N, C) are those of the direct users over all direct prompts, ascending, padded with 0.
    """
    families = {"sequential": scores.sequential.values(), "direct": scores.direct.values()}
    users = {
        family: np.unique(np.concatenate([np.zeros(0, np.int64), *(ranking.user_ids for ranking in rankings)]))
        for family, rankings in families.items()
    }
    listed = [
        (ranking.user_ids, ranking.candidates) for ranking in families["direct"] if ranking.candidates is not None
    ]
    candidates = np.zeros((len(users["direct"]), max((rows.shape[1] for _, rows in listed), default=0)), np.int64)
    for owners, rows in listed:
        candidates[np.searchsorted(users["direct"], owners), : rows.shape[1]] = np.sort(rows, 1)
    return users, candidates
