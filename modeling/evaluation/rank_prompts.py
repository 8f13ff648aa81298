"""Ranks items for every user of one evaluated prompt.

Reads a model, tokenised test prompts, the prefix tree of the catalogue and the seen items; returns the top items with
scores and the rank of the held-out item. A direct prompt that shows the history instead of its candidates is encoded
once and ranked over three candidate sets: uniform, popularity-sampled, whole catalogue. Rows are batched by length to
limit padding; results are in row order.
"""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from features.errors import TableError
from features.runtime.progress import Progress
from modeling.data.length_batching import plan_batches
from modeling.data.prompt_dataset import Batch, PromptDataset
from modeling.data.ragged import Ragged
from modeling.data.tokenizer import VIP5Tokenizer
from modeling.data.user_histories import UserHistories
from modeling.decoding.constrained_search import Ranked, rank_catalogue, score_candidates
from modeling.decoding.prefix_tree import PrefixTree, build_tree
from modeling.decoding.tree_decoder import TreeDecoder
from modeling.decoding.unconstrained_beams import Parsed, parse_items, unconstrained_beam_search
from modeling.metrics.ranking import ranks_of
from modeling.models.vip5 import VIP5
from modeling.runtime.devices import autocast

IntArray = npt.NDArray[np.int64]
_LOGIT_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class Search:
    """Decoding parameters."""

    decoding: Literal["constrained", "unconstrained"]
    """constrained: prefix tree of unseen items, or exact candidate likelihood; unconstrained: as in the paper."""
    beam: int
    """Beams per row."""
    top_k: int
    """Items returned per row."""
    batch_size: int
    """Maximum rows per batch."""
    tokens_per_batch: int
    """Maximum source tokens per batch, padding included."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Precision of the forward pass; scores are summed in float32."""
    max_tokens: int = 50
    """Maximum length of an unconstrained output, tokens."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """Items as token sequences that the model can generate."""

    texts: Sequence[str]
    """Identifier texts of items 1 to I."""
    tree: PrefixTree
    item_of: dict[str, int]
    """Item id by identifier text."""

    @property
    def num_items(self) -> int:
        """Number of items in the catalogue."""
        return len(self.texts)


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
    other_candidate_sets: dict[str, IntArray] = field(default_factory=dict)
    """(N,) ranks of the target over the sets popular and whole; empty if the prompt lists its candidates."""
    invalid_shares: dict[str, float] = field(default_factory=dict)
    """Shares of invalid, repeated and seen outputs; empty under constrained decoding, which has none."""


def catalogue_of(identifiers: pa.Table, tokens: VIP5Tokenizer) -> Catalogue:
    """Builds the catalogue and its prefix tree from `identifiers` (item_id, text), which must hold items 1 to I."""
    texts = identifiers["text"].to_pylist()
    if identifiers["item_id"].to_pylist() != list(range(1, len(texts) + 1)):
        raise TableError(
            "identifiers with gaps in item_id", "items 1 to I, each once", "run `.venv/bin/dvc repro identifiers`"
        )
    sequences = [ids[:-1].tolist() for ids in tokens.encode_targets(texts, 64)]
    tree = build_tree(sequences, eos_id=tokens.eos_id)
    return Catalogue(texts=texts, tree=tree, item_of={text: item for item, text in enumerate(texts, start=1)})


def prompt_key(prompt_id: str, variant: str) -> str:
    """Returns the key in metrics and predictions: the prompt id, followed by ":variant" unless it is `published`.

    Example: ("B-5", "history") -> "B-5:history"; ("B-5", "published") -> "B-5"
    """
    return prompt_id if variant == "published" else f"{prompt_id}:{variant}"


def rows_by_prompt(
    corpus: PromptDataset, family: int, users: IntArray | None, keys: Sequence[str]
) -> dict[str, IntArray]:
    """Returns the rows of each evaluated prompt of a family, in ascending order of user.

    Args:
        corpus: test prompts.
        family: index in `schema.FAMILIES`.
        users: users to include; None for all.
        keys: prompts to include, by id or key; empty for all.
    """
    pairs = zip(corpus.prompt_ids.to_pylist(), corpus.variants.to_pylist(), strict=True)
    names = np.array([prompt_key(*pair) for pair in pairs], dtype=object)
    rows = np.flatnonzero(corpus.families == family)
    if users is not None:
        rows = rows[np.isin(corpus.user_ids[rows], users)]
    rows_by_key = {}
    for name in sorted({str(name) for name in names[rows]}):
        if keys and name not in keys and name.partition(":")[0] not in keys:
            continue
        prompt_rows = rows[names[rows] == name]
        rows_by_key[name] = prompt_rows[np.argsort(corpus.user_ids[prompt_rows], kind="stable")]
    return rows_by_key


def rank_prompt(
    model: VIP5,
    corpus: PromptDataset,
    rows: IntArray,
    *,
    catalogue: Catalogue,
    histories: UserHistories,
    search: Search,
    label: str,
    popular: Ragged | None = None,
    bar: Progress | None = None,
) -> Rankings:
    """Ranks items for `rows`, which all belong to one evaluated prompt.

    Rows with candidates are ranked over them by exact likelihood, the others over all unseen items. `popular` (row u:
    candidates of user u, target included) adds the other candidate sets. Without `bar`, a new progress bar is shown.
    """
    answers = _Answers.empty(corpus, rows, search, other_candidate_sets=popular is not None)
    with nullcontext(bar) if bar is not None else Progress(len(rows), label, "users") as progress:
        progress.show(label)
        for places in _batches(corpus, rows, search):
            batch = corpus.batch(rows[places], next(model.parameters()).device)
            users = corpus.user_ids[rows[places]]
            seen = histories.seen(users, catalogue.num_items)
            with autocast(batch.input_ids.device, search.dtype):
                if search.decoding == "unconstrained":
                    ranked = _free(
                        model, batch, corpus.tokens, catalogue=catalogue, search=search, seen=seen,
                        counts=answers.parsed,
                    )  # fmt: skip
                else:
                    harder = None if popular is None else popular.padded(users, fill=0).astype(np.int64)
                    decoder = TreeDecoder(model, batch)
                    ranked = _constrained(decoder, answers, places, catalogue.tree, seen, search, harder)
            answers.put(places, ranked)
            progress.update(len(places))
    return answers.rankings(corpus, rows, unconstrained=search.decoding == "unconstrained")


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """Results of the batches of one prompt so far, in row order."""

    targets: IntArray
    candidates: IntArray | None
    items: IntArray
    scores: npt.NDArray[np.float32]
    ranks: IntArray
    other_candidate_sets: dict[str, IntArray]
    parsed: Parsed

    @classmethod
    def empty(cls, corpus: PromptDataset, rows: IntArray, search: Search, *, other_candidate_sets: bool) -> "_Answers":
        lists = corpus.candidate_ids.padded(rows, fill=0).astype(np.int64)
        candidates = lists if lists.shape[1] else None
        width = search.top_k if candidates is None else min(search.top_k, candidates.shape[1])
        names = ("popular", "whole") if other_candidate_sets and candidates is not None else ()
        return cls(
            targets=corpus.target_item_ids[rows].astype(np.int64),
            candidates=candidates,
            items=np.zeros((len(rows), width), np.int64),
            scores=np.full((len(rows), width), -np.inf, np.float32),
            ranks=np.zeros(len(rows), np.int64),
            other_candidate_sets={name: np.zeros(len(rows), np.int64) for name in names},
            parsed=Parsed(),
        )

    def put(self, places: IntArray, ranked: Ranked) -> None:
        self.ranks[places] = ranks_of(ranked.items, self.targets[places])
        kept = min(self.items.shape[1], ranked.items.shape[1])
        self.items[places, :kept] = ranked.items[:, :kept]
        self.scores[places, :kept] = ranked.scores[:, :kept]

    def rankings(self, corpus: PromptDataset, rows: IntArray, *, unconstrained: bool) -> Rankings:
        return Rankings(
            user_ids=corpus.user_ids[rows].astype(np.int64),
            items=self.items,
            scores=self.scores,
            targets=self.targets,
            ranks=self.ranks,
            candidates=self.candidates,
            other_candidate_sets={} if unconstrained else self.other_candidate_sets,
            invalid_shares=self.parsed.shares() if unconstrained else {},
        )


def _constrained(  # noqa: PLR0917  # the parts of one batch
    decoder: TreeDecoder,
    answers: _Answers,
    places: IntArray,
    tree: PrefixTree,
    seen: npt.NDArray[np.bool_],
    how: Search,
    popular: IntArray | None,
) -> Ranked:
    if answers.candidates is None:
        return rank_catalogue(decoder, tree, ~seen, beam=how.beam, top_k=how.top_k)
    listed, targets = answers.candidates[places], answers.targets[places]
    if not answers.other_candidate_sets or popular is None:
        return _sorted(listed, score_candidates(decoder, tree, listed))
    both = np.concatenate([listed, popular], 1)
    scores = score_candidates(decoder, tree, both)
    width = listed.shape[1]
    answers.other_candidate_sets["popular"][places] = ranks_of(_sorted(popular, scores[:, width:]).items, targets)
    whole = rank_catalogue(decoder.reset(), tree, ~seen, beam=how.beam, top_k=how.top_k)
    answers.other_candidate_sets["whole"][places] = ranks_of(whole.items, targets)
    return _sorted(listed, scores[:, :width])


def _batches(corpus: PromptDataset, rows: IntArray, search: Search) -> list[IntArray]:
    """Returns indices into `rows` in length-bucketed batches whose beam logits fit `_LOGIT_BYTES`."""
    size = search.batch_size
    if search.decoding == "unconstrained":
        size = min(size, max(1, _LOGIT_BYTES // (4 * search.beam * corpus.tokens.size)))
    return plan_batches(
        corpus.lengths[rows],
        corpus.targets.lengths[rows],
        batch_size=size,
        tokens_per_batch=search.tokens_per_batch,
    )


def _sorted(candidates: IntArray, scores: npt.NDArray[np.float32]) -> Ranked:
    order = np.argsort(-scores, axis=1, kind="stable")
    return Ranked(np.take_along_axis(candidates, order, 1), np.take_along_axis(scores, order, 1))


def _free(
    model: VIP5,
    batch: Batch,
    tokens: VIP5Tokenizer,
    *,
    catalogue: Catalogue,
    search: Search,
    seen: npt.NDArray[np.bool_],
    counts: Parsed,
) -> Ranked:
    sequences, sums = unconstrained_beam_search(
        model, batch, beam=search.beam, max_tokens=search.max_tokens, eos_id=tokens.eos_id
    )
    items = np.zeros((len(sequences), search.beam), np.int64)
    scores = np.full(items.shape, -np.inf, np.float32)
    for row, (beams, values) in enumerate(zip(sequences, sums, strict=True)):
        texts = [tokens.decode(ids.tolist()) for ids in beams]
        items_found = parse_items(texts, values.tolist(), catalogue.item_of, seen[row], counts)
        for column, (item, value) in enumerate(items_found):
            items[row, column], scores[row, column] = item, value
    return Ranked(items, scores)


def users_of(rankings: Iterable[Rankings]) -> IntArray:
    """Returns all users of the rankings, ascending."""
    return np.unique(np.concatenate([np.zeros(0, np.int64), *(r.user_ids for r in rankings)]))


def listed_candidates(direct: Iterable[Rankings], users: IntArray) -> IntArray:
    """Returns (N, C) the candidates of the direct prompts for `users`, ascending, padded with 0."""
    listed = [(rankings.user_ids, rankings.candidates) for rankings in direct if rankings.candidates is not None]
    candidates = np.zeros((len(users), max((rows.shape[1] for _, rows in listed), default=0)), np.int64)
    for owners, rows in listed:
        candidates[np.searchsorted(users, owners), : rows.shape[1]] = np.sort(rows, 1)
    return candidates
