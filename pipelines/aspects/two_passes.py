"""The two passes of `explanations` over one bucket of reviews: find mentions, then select sentences.

Reads `reviews-NNNNN.parquet` in the stage's scratch folder. The first pass writes mentions and noun counts beside it
and a part of `sentences`, the second a part of `explanations`.
Trade-off: the first pass stores every mention (about 150 bytes each), so that no review is tagged twice.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from features import schema
from features.runtime.seeds import stable_hash
from features.store import tables
from pipelines.aspects import extraction
from pipelines.aspects.config import Params
from pipelines.aspects.extraction import Mention, Word
from pipelines.aspects.sentence_splitter import sentences


@dataclass(frozen=True, kw_only=True)
class Job:
    """Parameters and folders shared by all units. `aspect_words` is None in the first pass.

    `folder` is the table `explanations`, `sentences_folder` the table `sentences`.
    """

    params: Params
    seed: int
    scratch: Path
    folder: Path
    sentences_folder: Path
    aspect_words: frozenset[str] | None = None


MIN_SENTENCE_WORDS = 3
"""Minimum number of words of a row of `sentences`."""

_MENTIONS = pa.schema([
    ("review", pa.int64()), ("feature", pa.string()), ("sentence", pa.string()), ("opinion", pa.string()),
    ("polarity", pa.float64()), ("score", pa.float64()),
])  # fmt: skip


def find_mentions(job: Job, unit: int) -> dict[str, int]:
    """First pass: stores a bucket's mentions, the train reviews that contain each noun and the train sentences."""
    reviews = pq.read_table(job.scratch / f"reviews-{unit:05d}.parquet").to_pylist()
    mention_rows: list[dict[str, Any]] = []
    sentence_rows: list[dict[str, Any]] = []
    counts = {name: Counter[str]() for name in ("reviews", "opinions", "titles")}
    for number, review in enumerate(reviews):
        tagged = [(s, extraction.tag(s)) for s in sentences(review["text"], job.params.max_words)]
        nouns, mentions = read_review(review, tagged)
        mention_rows += [{"review": number} | {f.name: getattr(m, f.name) for f in fields(Mention)} for m in mentions]
        if review["split"] == "train":
            sentence_rows += usable_sentences(review, tagged, job)
            stems = extraction.title_stems(review["title"])
            counts["reviews"].update(nouns)
            counts["opinions"].update({mention.feature for mention in mentions})
            counts["titles"].update(noun for noun in nouns if extraction.names_item(noun, stems))
    pq.write_table(pa.Table.from_pylist(mention_rows, schema=_MENTIONS), job.scratch / f"mentions-{unit:05d}.parquet")
    path = job.scratch / f"nouns-{unit:05d}.json"
    path.write_text(json.dumps(counts, sort_keys=True), encoding="utf-8")
    num_sentences = _write_distinct(job.sentences_folder, schema.SENTENCES, unit, sentence_rows)
    return {"reviews": len(reviews), "mentions": len(mention_rows), "sentences": num_sentences}


def read_review(review: Mapping[str, Any], tagged: Sequence[tuple[str, list[Word]]]) -> tuple[set[str], list[Mention]]:
    """The candidate nouns of one review and its mentions with an opinion, in text order.

    Args:
        review: Title and rating.
        tagged: The sentences of its text with their tokens.
    """
    stems = extraction.title_stems(review["title"])
    nouns: set[str] = set()
    mentions: list[Mention] = []
    for sentence, words in tagged:
        nouns |= extraction.nouns(words)
        mentions += extraction.mentions(sentence, words, review["rating"], stems)
    return nouns, mentions


def usable_sentences(
    review: Mapping[str, Any], tagged: Sequence[tuple[str, list[Word]]], job: Job
) -> Iterator[dict[str, Any]]:
    """Yields the rows of `sentences` of one train review, each with one of its nouns and adjectives.

    A sentence of fewer than 3 or more than `max_words` words, or without a noun or adjective, is left out. So is a
    review whose explanations an independent split puts into valid or test.
    """
    if split_of(review, job) != "train":
        return
    for sentence, words in tagged:
        choices = extraction.content_words(words)
        if choices and MIN_SENTENCE_WORDS <= len(sentence.split()) <= job.params.max_words:
            key = stable_hash(job.seed, "sentences", review["user_id"], review["item_id"], sentence)
            yield {
                "user_id": review["user_id"], "item_id": review["item_id"], "rating": review["rating"],
                "word": choices[key % len(choices)], "sentence": sentence,
            }  # fmt: skip


def frequent_aspects(
    counts: Iterable[Mapping[str, Mapping[str, int]]],
    *,
    min_reviews: float,
    min_opinion_share: float,
    max_title_share: float,
) -> frozenset[str]:
    """Selects the nouns that are aspects of the category, from their use in train reviews.

    Args:
        counts: For each bucket, `reviews` (reviews that contain the noun), `opinions` (of these, with an opinion on it)
            and `titles` (of these, with the noun in the item's title).
        min_reviews: Minimum number of reviews that contain the noun.
        min_opinion_share: Minimum share of them with an opinion on it; low for people and places.
        max_title_share: Maximum share of them with the noun in the item's title; above it the noun is a product type.

    Example:
        >>> counts = {"reviews": {"tone": 9, "strap": 9}, "opinions": {"tone": 5, "strap": 5}, "titles": {"strap": 8}}
        >>> frequent_aspects([counts], min_reviews=3, min_opinion_share=0.2, max_title_share=0.5)
        frozenset({'tone'})
    """
    total = {name: Counter[str]() for name in ("reviews", "opinions", "titles")}
    for bucket in counts:
        for name, counter in total.items():
            counter.update(bucket[name])
    return frozenset(
        noun
        for noun, count in total["reviews"].items()
        if count >= min_reviews
        and total["opinions"][noun] >= min_opinion_share * count
        and total["titles"][noun] <= max_title_share * count
    )


def choose(mentions: Sequence[Mention], job: Job) -> list[Mention]:
    """Selects the best mentions of one review, at most `per_review`, with distinct features and sentences.

    Mentions are ordered by descending score, then by sentence length, then alphabetically.
    """
    allowed = [
        mention
        for mention in mentions
        if mention.feature in (job.aspect_words or ())
        and mention.score >= job.params.min_score
        and job.params.min_words <= len(mention.sentence.split()) <= job.params.max_words
    ]
    chosen: list[Mention] = []
    for mention in sorted(allowed, key=lambda m: (-m.score, len(m.sentence), m.sentence, m.feature)):
        taken = {kept.feature for kept in chosen} | {kept.sentence for kept in chosen}
        if mention.feature not in taken and mention.sentence not in taken:
            chosen.append(mention)
        if len(chosen) == job.params.per_review:
            break
    return chosen


def pairs(review: Mapping[str, Any], mentions: Sequence[Mention], job: Job) -> list[tuple[str, str]]:
    """The feature words and sentences of a review: the published pair if there is one, else the best mentions."""
    if review["feature"] and review["explanation"]:
        return [(review["feature"], review["explanation"])]
    return [(mention.feature, mention.sentence) for mention in choose(mentions, job)]


def write_explanations(job: Job, unit: int) -> dict[str, int]:
    """Second pass: selects the sentences of a bucket and writes them as one part of the table."""
    reviews = pq.read_table(job.scratch / f"reviews-{unit:05d}.parquet").to_pylist()
    mentions: dict[int, list[Mention]] = {}
    for row in pq.read_table(job.scratch / f"mentions-{unit:05d}.parquet").to_pylist():
        mentions.setdefault(row.pop("review"), []).append(Mention(**row))
    rows = [
        {
            "user_id": review["user_id"], "item_id": review["item_id"], "rating": review["rating"],
            "headline": review["headline"] or None, "feature": feature, "sentence": sentence,
            "split": split_of(review, job),
        }
        for number, review in enumerate(reviews)
        for feature, sentence in pairs(review, mentions.get(number, []), job)
    ]  # fmt: skip
    return {"explanations": _write_distinct(job.folder, schema.EXPLANATIONS, unit, rows)}


def _write_distinct(folder: Path, table: schema.Table, unit: int, rows: Sequence[dict[str, Any]]) -> int:
    """Writes one part with the last row of each key; returns the number of rows."""
    by_key = {tuple(row[name] for name in table.key): row for row in rows}  # the same text in two reviews of an item
    distinct = [by_key[key] for key in sorted(by_key)]
    tables.write_part(tables.staging_of(folder), table, unit, tables.from_rows(table, distinct))
    return len(distinct)


def split_of(review: Mapping[str, Any], job: Job) -> str:
    """The split of the interaction, or an independent 8:1:1 split by a hash of the seed, user and item."""
    if job.params.split == "interaction":
        return str(review["split"])
    share = stable_hash(job.seed, "explanations", "split", review["user_id"], review["item_id"]) / 2**64
    return "train" if share < 0.8 else "valid" if share < 0.9 else "test"
