"""Explanations: sentences of reviews that speak of an aspect of the item, with the aspect as feature word.

Enters: accepted reviews and the sequences. Leaves: `explanations`, at most `per_review` sentences a review; empty where
a dump has no texts (p5). Trade-off: lexicons and word patterns choose few and mostly right sentences (precision in
docs/benchmarks/explanations.md) where the original took a precomputed file of all that its tool found.
"""

import dataclasses
import functools
import json
import logging
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from features import schema
from features.runtime import stage
from features.runtime.params import build
from features.runtime.stage import Context
from features.store import tables
from pipelines.aspects import two_passes
from pipelines.beam.runner import BeamParams, run_units

log = logging.getLogger("vip5")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Params:
    """Which sentences are kept."""

    per_review: int = 1
    """Sentences kept of one review, best first."""
    split: Literal["interaction", "independent"] = "interaction"
    """Split of a sentence: that of its interaction, or independent 8:1:1 by the seed as published (it leaks)."""
    min_words: int = 4
    """Least words of a sentence."""
    max_words: int = 30
    """Most words of a sentence; a longer one is cut into clauses first."""
    min_reviews: int = 3
    """Train reviews that must hold a noun for it to be an aspect, at least."""
    min_review_share: float = 0.002
    """And the share of the train reviews, 0 to 1."""
    min_opinion_share: float = 0.2
    """Of the train reviews with the noun, the least share with an opinion on it, 0 to 1."""
    max_title_share: float = 0.5
    """Of the train reviews with the noun, the greatest share whose item's title holds it, 0 to 1."""
    min_score: float = 2.5
    """Least evidence of a sentence (pipelines/aspects/extraction.py: 2 to 3 for the pattern, up to 2 for agreement and
    length)."""
    reviews_per_unit: int = 5000
    """Reviews that one unit of work reads."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_words <= self.max_words:
            raise ValueError(f"min_words = {self.min_words} and max_words = {self.max_words} are not 1 <= min <= max")
        for name in ("per_review", "min_reviews", "reviews_per_unit"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} is below 1")
        for name in ("min_review_share", "min_opinion_share", "max_title_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)} is not a share from 0 to 1")


SECTIONS = ("beam",)
READS = (
    "data/${dataset}/records/reviews",
    "data/${dataset}/sequences/users",
    "data/${dataset}/sequences/items",
    "data/${dataset}/sequences/interactions",
)
WRITES = ("data/${dataset}/explanations",)


def run(params: Params, context: Context) -> int:
    """Extract one opinion sentence and its feature word from every review that has one."""
    beam = build(BeamParams, context.shared["beam"], where="beam")
    beam.check()
    folder = context.table("explanations").resolve()
    scratch = folder.with_name(".explanations.scratch")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        num_train, units = join_reviews(context, scratch, params.reviews_per_unit)
        job = make_job(params, context.seed, scratch, folder)
        tables.begin_table(folder)
        if units:
            ledger = scratch / "counts.json"
            run_units("explanations", units, functools.partial(two_passes.find_mentions, job), beam, ledger)
            job = dataclasses.replace(job, aspect_words=count_aspects(params, scratch, num_train))
            run_units("explanations", units, functools.partial(two_passes.write_explanations, job), beam, ledger)
            log.info("explanations: %d aspects, such as %s", len(job.aspect_words or ()), _sample(job.aspect_words))
        else:
            empty = schema.EXPLANATIONS.arrow.empty_table()
            tables.write_part(tables.staging_of(folder), schema.EXPLANATIONS, 0, empty)
        inputs = {
            name.removeprefix("data/${dataset}/"): context.table(name.removeprefix("data/${dataset}/"))
            for name in READS
        }
        notes = {"aspects": sorted(job.aspect_words or ())}
        provenance = tables.Provenance(stage="explanations", params=params, inputs=inputs, notes=notes)
        return tables.finish_table(context.table("explanations"), schema.EXPLANATIONS, provenance)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def make_job(params: Params, seed: int, scratch: Path, folder: Path) -> two_passes.Job:
    """What the units need of the parameters."""
    return two_passes.Job(
        scratch=scratch,
        folder=folder,
        seed=seed,
        per_review=params.per_review,
        split=params.split,
        min_words=params.min_words,
        max_words=params.max_words,
        min_score=params.min_score,
    )


def join_reviews(context: Context, scratch: Path, reviews_per_unit: int) -> tuple[int, list[int]]:
    """Writes the texts of all interactions, in buckets by user; returns the number of train reviews and the buckets.

    An interaction's review is the line of the same user, item and time (the first such line); one without a rating
    or a text has no explanation. A p5 folder has reviews where its exp_splits.pkl has them.
    """
    import polars as pl

    keys = ["user_key", "item_key", "timestamp"]
    columns = [*keys, "rating", "headline", "text", "feature", "explanation", "source", "line"]
    frames = {}
    for table, wanted in (
        (schema.REVIEWS, columns),
        (schema.USERS, ["user_id", "user_key"]),
        (schema.CATALOGUE, ["item_id", "item_key", "title"]),
        (schema.INTERACTIONS, ["user_id", "position", "item_id", "timestamp", "split"]),
    ):
        frames[table] = pl.scan_parquet(tables.checked_parts(context.table(table.name), table)).select(wanted)
    reviews = frames[schema.REVIEWS].filter(pl.col("text").is_not_null() & pl.col("rating").is_not_null())
    joined = (
        frames[schema.INTERACTIONS]
        .join(frames[schema.USERS], on="user_id")
        .join(frames[schema.CATALOGUE], on="item_id")
        .join(reviews, on=keys, nulls_equal=True)  # p5 has no times
        .sort("user_id", "position", "source", "line")
        .unique(["user_id", "position"], keep="first", maintain_order=True)
        .collect(engine="streaming")
    )
    first_row = pl.col("row").min().over("user_id")  # a user lies in one bucket, so that parts stay in key order
    buckets = joined.with_row_index("row").with_columns(bucket=(first_row // reviews_per_unit).rank("dense") - 1)
    for (unit,), bucket in buckets.partition_by("bucket", as_dict=True, include_key=False).items():
        bucket.drop("row").write_parquet(scratch / f"reviews-{unit:05d}.parquet")
    units = list(range(buckets["bucket"].n_unique()))
    return joined.filter(pl.col("split") == "train").height, units


def count_aspects(params: Params, scratch: Path, num_train: int) -> frozenset[str]:
    """The aspect words of the category, from the noun counts that the first pass left."""
    counts = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(scratch.glob("nouns-*.json")))
    return two_passes.frequent_aspects(
        counts,
        min_reviews=max(params.min_reviews, params.min_review_share * num_train),
        min_opinion_share=params.min_opinion_share,
        max_title_share=params.max_title_share,
    )


def _sample(words: frozenset[str] | None) -> str:
    return ", ".join(sorted(words or ())[:8])


def main(argv: Sequence[str] | None = None) -> int:
    """The command line."""
    return stage.main("explanations", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
