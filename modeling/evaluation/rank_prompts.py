"""A model's ranked items for every user of one evaluated prompt.

A direct prompt that does not list its candidates (it shows the history instead) is answered three times under one
encoding: among its fixed uniform candidates, among candidates drawn by popularity, and among the whole catalogue.

Enters: a model, tokenised test prompts, the prefix tree of the catalogue, what every user already has.
Leaves: the top items with scores, and the rank of the item held out. Trade-off: rows are batched by length, whatever
their prompt, so that a batch holds little padding; results are put back in the order of the rows.
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
    """How items are decoded."""

    decoding: Literal["constrained", "unconstrained"]
    """constrained: a tree of unseen items, or the exact likelihood of the candidates; unconstrained: the paper's."""
    beam: int
    """Beams a row."""
    top_k: int
    """Items kept a row."""
    batch_size: int
    """Rows a batch at most."""
    tokens_per_batch: int
    """Source tokens a batch at most, padding included."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the model's passes; scores are summed in float32."""
    max_tokens: int = 50
    """Longest unconstrained string, tokens."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """The items as the model writes them."""

    texts: Sequence[str]
    """Identifier text of items 1 to I."""
    tree: PrefixTree
    item_of: dict[str, int]
    """Item of an identifier text."""

    @property
    def num_items(self) -> int:
        """Items of the catalogue."""
        return len(self.texts)


@dataclass(frozen=True, kw_only=True)
class Rankings:
    """The rows of one evaluated prompt, in ascending order of user."""

    user_ids: IntArray
    items: IntArray
    """(N, K) best first, 0 where a row has fewer."""
    scores: npt.NDArray[np.float32]
    """(N, K) log-probabilities, nats."""
    targets: IntArray
    ranks: IntArray
    """(N,) rank of the target, from 1; 0 where it is not ranked."""
    candidates: IntArray | None = None
    """(N, C) what a direct prompt lists; None elsewhere."""
    further: dict[str, IntArray] = field(default_factory=dict)
    """(N,) ranks of the target among other candidates: popular, whole; empty where the prompt lists its candidates."""
    strings: dict[str, float] = field(default_factory=dict)
    """Shares of invalid, repeated and seen strings; empty under constrained decoding, which cannot make them."""


def catalogue_of(identifiers: pa.Table, tokens: VIP5Tokenizer) -> Catalogue:
    """The prefix tree of `identifiers` (item_id, text), which must hold items 1 to I."""
    texts = identifiers["text"].to_pylist()
    if identifiers["item_id"].to_pylist() != list(range(1, len(texts) + 1)):
        raise TableError(
            "identifiers with gaps in item_id", "items 1 to I, each once", "run `.venv/bin/dvc repro identifiers`"
        )
    sequences = [ids[:-1].tolist() for ids in tokens.encode_targets(texts, 64)]
    tree = build_tree(sequences, eos_id=tokens.eos_id)
    return Catalogue(texts=texts, tree=tree, item_of={text: item for item, text in enumerate(texts, start=1)})


def prompt_key(prompt_id: str, variant: str) -> str:
    """The key of metrics and predictions: the prompt's id, with a colon and the variant unless it is the published one.

    Example: ("B-5", "history") -> "B-5:history"; ("B-5", "published") -> "B-5"
    """
    return prompt_id if variant == "published" else f"{prompt_id}:{variant}"


def rows_by_prompt(
    corpus: PromptDataset, family: int, users: IntArray | None, keys: Sequence[str]
) -> dict[str, IntArray]:
    """Rows of each evaluated prompt of a family, in ascending order of user.

    Args:
        corpus: test prompts.
        family: its number in `schema.FAMILIES`.
        users: only these; None for all.
        keys: only these prompts (by id or key); empty for all.
    """
    pairs = zip(corpus.prompt_ids.to_pylist(), corpus.variants.to_pylist(), strict=True)
    names = np.array([prompt_key(*pair) for pair in pairs], dtype=object)
    rows = np.flatnonzero(corpus.families == family)
    if users is not None:
        rows = rows[np.isin(corpus.user_ids[rows], users)]
    found = {}
    for name in sorted({str(name) for name in names[rows]}):
        if keys and name not in keys and name.partition(":")[0] not in keys:
            continue
        own = rows[names[rows] == name]
        found[name] = own[np.argsort(corpus.user_ids[own], kind="stable")]
    return found


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
    """The rankings of `rows`, which all belong to one evaluated prompt.

    Rows with candidates are ranked among them by exact likelihood; the others among all items the user does not have.
    `popular` (row u: candidates of user u, the test item among them) asks for the further rankings. `bar` is that of a
    whole evaluation; without one these rows have their own.
    """
    answers = _Answers.empty(corpus, rows, search, further=popular is not None)
    with nullcontext(bar) if bar is not None else Progress(len(rows), label, "users") as told:
        told.show(label)
        for places in _batches(corpus, rows, search):
            batch = corpus.batch(rows[places], next(model.parameters()).device)
            users = corpus.user_ids[rows[places]]
            seen = histories.seen(users, catalogue.num_items)
            with autocast(batch.input_ids.device, search.dtype):
                if search.decoding == "unconstrained":
                    ranked = _free(
                        model,
                        batch,
                        corpus.tokens,
                        catalogue=catalogue,
                        search=search,
                        seen=seen,
                        counts=answers.parsed,
                    )
                else:
                    harder = None if popular is None else popular.padded(users, fill=0).astype(np.int64)
                    decoder = TreeDecoder(model, batch)
                    ranked = _constrained(decoder, answers, places, catalogue.tree, seen, search, harder)
            answers.put(places, ranked)
            told.update(len(places))
    return answers.rankings(corpus, rows, unconstrained=search.decoding == "unconstrained")


@dataclass(frozen=True, kw_only=True)
class _Answers:
    """What the batches of one prompt have answered so far, in the order of its rows."""

    targets: IntArray
    candidates: IntArray | None
    items: IntArray
    scores: npt.NDArray[np.float32]
    ranks: IntArray
    further: dict[str, IntArray]
    parsed: Parsed

    @classmethod
    def empty(cls, corpus: PromptDataset, rows: IntArray, search: Search, *, further: bool) -> "_Answers":
        lists = corpus.candidate_ids.padded(rows, fill=0).astype(np.int64)
        candidates = lists if lists.shape[1] else None
        width = search.top_k if candidates is None else min(search.top_k, candidates.shape[1])
        names = ("popular", "whole") if further and candidates is not None else ()
        return cls(
            targets=corpus.target_item_ids[rows].astype(np.int64),
            candidates=candidates,
            items=np.zeros((len(rows), width), np.int64),
            scores=np.full((len(rows), width), -np.inf, np.float32),
            ranks=np.zeros(len(rows), np.int64),
            further={name: np.zeros(len(rows), np.int64) for name in names},
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
            further={} if unconstrained else self.further,
            strings=self.parsed.shares() if unconstrained else {},
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
    if not answers.further or popular is None:
        return _sorted(listed, score_candidates(decoder, tree, listed))
    both = np.concatenate([listed, popular], 1)
    scores = score_candidates(decoder, tree, both)
    width = listed.shape[1]
    answers.further["popular"][places] = ranks_of(_sorted(popular, scores[:, width:]).items, targets)
    whole = rank_catalogue(decoder.reset(), tree, ~seen, beam=how.beam, top_k=how.top_k)
    answers.further["whole"][places] = ranks_of(whole.items, targets)
    return _sorted(listed, scores[:, :width])


def _batches(corpus: PromptDataset, rows: IntArray, search: Search) -> list[IntArray]:
    """Places in `rows`, in batches of like length that keep the beams' logits within bounds."""
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
    for row, (own, values) in enumerate(zip(sequences, sums, strict=True)):
        texts = [tokens.decode(ids.tolist()) for ids in own]
        found = parse_items(texts, values.tolist(), catalogue.item_of, seen[row], counts)
        for place, (item, value) in enumerate(found):
            items[row, place], scores[row, place] = item, value
    return Ranked(items, scores)


def users_of(rankings: Iterable[Rankings]) -> IntArray:
    """All users of some rankings, ascending."""
    return np.unique(np.concatenate([np.zeros(0, np.int64), *(r.user_ids for r in rankings)]))


def listed_candidates(direct: Iterable[Rankings], users: IntArray) -> IntArray:
    """(N, C) the candidates that the direct prompts list for `users`, ascending, 0 where there are none."""
    listed = [(own.user_ids, own.candidates) for own in direct if own.candidates is not None]
    candidates = np.zeros((len(users), max((rows.shape[1] for _, rows in listed), default=0)), np.int64)
    for owners, rows in listed:
        candidates[np.searchsorted(users, owners), : rows.shape[1]] = np.sort(rows, 1)
    return candidates
