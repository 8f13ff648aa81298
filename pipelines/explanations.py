"""Stage `explanations`: extracts review sentences about an aspect of the item, with the aspect as feature word.

Reads accepted reviews and the sequences. Writes `explanations`, at most `per_review` sentences per review, and
`sentences`, every sentence of the train reviews with one of its content words; both are empty without texts (p5).
Trade-off: lexicons and word patterns select few but mostly correct sentences (precision in
docs/benchmarks/explanations.md); the original used a precomputed file of everything that its tool found.
"""

import dataclasses
import functools
import json
import logging
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from features import schema
from features.runtime import stage
from features.runtime.params import build
from features.runtime.stage import Context
from features.store import tables
from pipelines.aspects import no_aspect, two_passes
from pipelines.aspects.config import Params
from pipelines.beam.runner import BeamParams, run_units

log = logging.getLogger("vip5")


SECTIONS = ("beam",)
READS = (
    "data/${dataset}/records/reviews",
    "data/${dataset}/sequences/users",
    "data/${dataset}/sequences/items",
    "data/${dataset}/sequences/interactions",
)
_TABLES = (schema.EXPLANATIONS, schema.SENTENCES)
WRITES = ("data/${dataset}/explanations", "data/${dataset}/sentences")


def run(params: Params, context: Context) -> int:
    """Extract opinion sentences and their feature words from reviews."""
    beam = build(BeamParams, context.shared["beam"], where="beam")
    beam.check()
    folder, sentences = (context.table(table.name).resolve() for table in _TABLES)
    scratch = folder.with_name(".explanations.scratch")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        num_train, units = join_reviews(context, scratch, params.reviews_per_unit)
        job = two_passes.Job(
            params=params, seed=context.seed, scratch=scratch, folder=folder, sentences_folder=sentences
        )
        for table in _TABLES:
            tables.begin_table(context.table(table.name))
        if units:
            ledger = scratch / "counts.json"
            run_units("explanations", units, functools.partial(two_passes.find_mentions, job), beam, ledger)
            job = dataclasses.replace(job, aspect_words=count_aspects(params, scratch, num_train))
            run_units("explanations", units, functools.partial(two_passes.write_explanations, job), beam, ledger)
            log.info("explanations: %d aspects, such as %s", len(job.aspect_words or ()), _sample(job.aspect_words))
        else:
            for table in _TABLES:
                staging = tables.staging_of(context.table(table.name))
                tables.write_part(staging, table, 0, table.arrow.empty_table())
        num_sentences = finish(params, context, schema.SENTENCES)
        num_explanations = finish(params, context, schema.EXPLANATIONS, aspects=sorted(job.aspect_words or ()))
        _warn_if_empty(params, scratch, num_train, job.aspect_words, num_sentences)
        return num_explanations
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def finish(params: Params, context: Context, table: schema.Table, **notes: Sequence[str]) -> int:
    """Puts a table in place; returns its number of rows."""
    inputs = {name: context.table(name) for name in (path.removeprefix("data/${dataset}/") for path in READS)}
    provenance = tables.Provenance(stage="explanations", params=params, inputs=inputs, notes=notes)
    return tables.finish_table(context.table(table.name), table, provenance)


def _warn_if_empty(
    params: Params, scratch: Path, num_train: int, aspects: frozenset[str] | None, num_sentences: int
) -> None:
    """Says in one line that a table is empty, and why; the stages that follow work without."""
    reviews = f"{num_train:,} train reviews with a text and a rating"
    if not num_sentences:
        log.warning(
            "explanations: no sentence of 3 words or more with a noun or adjective in %s; the table sentences is empty "
            "and prompts writes no sentence into train/language", reviews,
        )  # fmt: skip
    elif not aspects:
        log.warning(
            "explanations: no aspect found in %s; the table explanations is empty; %s", reviews,
            no_aspect.remedy(_noun_counts(scratch), params, num_train),
        )  # fmt: skip


def join_reviews(context: Context, scratch: Path, reviews_per_unit: int) -> tuple[int, list[int]]:
    """Writes the review texts of all interactions, bucketed by user; returns the number of train reviews and buckets.

    The review of an interaction is the first line with the same user, item and time; reviews without a rating or text
    have no explanation. Reviews of a p5 folder come from its exp_splits.pkl.
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
    first_row = pl.col("row").min().over("user_id")  # a user is in one bucket, so parts stay in key order
    buckets = joined.with_row_index("row").with_columns(bucket=(first_row // reviews_per_unit).rank("dense") - 1)
    for (unit,), bucket in buckets.partition_by("bucket", as_dict=True, include_key=False).items():
        bucket.drop("row").write_parquet(scratch / f"reviews-{unit:05d}.parquet")
    units = list(range(buckets["bucket"].n_unique()))
    return joined.filter(pl.col("split") == "train").height, units


def count_aspects(params: Params, scratch: Path, num_train: int) -> frozenset[str]:
    """The aspect words of the category, from the noun counts of the first pass."""
    return two_passes.frequent_aspects(
        _noun_counts(scratch),
        min_reviews=max(params.min_reviews, params.min_review_share * num_train),
        min_opinion_share=params.min_opinion_share,
        max_title_share=params.max_title_share,
    )


def _noun_counts(scratch: Path) -> Iterator[dict[str, dict[str, int]]]:
    """The noun counts of each unit."""
    for path in sorted(scratch.glob("nouns-*.json")):
        yield json.loads(path.read_text(encoding="utf-8"))


def _sample(words: frozenset[str] | None) -> str:
    return ", ".join(sorted(words or ())[:8])


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage from the command line."""
    return stage.main("explanations", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
