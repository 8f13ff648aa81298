"""The driver of `sequences`: reads the records, applies the steps of `histories`, writes three tables.

Enters: `records/reviews` and `records/items`. Leaves: `sequences/users`, `sequences/items`, `sequences/interactions`.
Trade-off: the three tables are made before the first is written, so that a failure leaves none half-made.
"""

import logging
from dataclasses import asdict
from typing import Any

import polars as pl

from features import datasets, schema, stage, tables
from features.errors import TableError
from pipelines import histories, sequences

log = logging.getLogger("vip5")

_REVIEW_COLUMNS = ("user_key", "item_key", "rating", "timestamp", "user_name", "source", "line", "position")


def write_sequences(params: sequences.Params, context: stage.Context) -> int:
    """Writes the three tables of `sequences` and returns their rows."""
    reviews = _frame(tables.read_table(context.table("records/reviews"), schema.REVIEWS, columns=_REVIEW_COLUMNS))
    metadata = _frame(
        tables.read_table(
            context.table("records/items"), schema.ITEMS, columns=("item_key", "title", "brand", "categories")
        )
    )
    dataset = datasets.dataset(context.shared, context.dataset)
    users, items, interactions = build(params, context.seed, reviews, metadata, in_file_order=dataset.format == "p5")
    provenance = tables.Provenance(
        stage="sequences",
        params=asdict(params),
        inputs={name: context.table(name) for name in ("records/reviews", "records/items")},
        notes={"numbering": params.numbering},
    )
    log.info(
        "sequences: %s users, %s items, %s interactions of %s reviews", users.height, items.height,
        interactions.height, reviews.height,
    )  # fmt: skip
    if params.numbering == "p5":
        log.warning("sequences: numbering p5 leaks: item numbers follow the complete histories, test items included")
    made = {schema.USERS: users, schema.CATALOGUE: items, schema.INTERACTIONS: interactions}
    return sum(
        tables.write_table(context.table(table.name), table, frame.to_arrow(), provenance)
        for table, frame in made.items()
    )


def build(
    params: sequences.Params, seed: int, reviews: pl.DataFrame, metadata: pl.DataFrame, *, in_file_order: bool
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """(users, items, interactions) with the columns of their declared tables.

    Args:
        params: the stage's parameters.
        seed: the run's seed.
        reviews: rows of `records/reviews`.
        metadata: rows of `records/items`.
        in_file_order: whether users keep the order of the file (p5: the published numbers).

    Raises:
        TableError: nothing survives the k-core.
    """
    coded, user_keys, item_keys = histories.coded(reviews)
    frame = histories.tied(coded, user_keys, item_keys, params.ties, seed)
    frame = histories.k_core(histories.deduped(frame, params.repeats), params.k_core)
    frame = histories.ordered(frame, params.max_interactions_per_user, sequences.LEAST_INTERACTIONS)
    if frame.height == 0:
        raise TableError(
            f"0 of {reviews.height} reviews in the {params.k_core}-core",
            "users and items with enough reviews",
            "lower sequences.k_core, or bring in a larger dump",
        )
    frame = histories.with_split(frame)
    frame = frame.join(histories.user_numbers(frame, seed, in_file_order=in_file_order), on="user", how="left")
    frame = frame.join(histories.item_numbers(frame, params.numbering, seed), on="item", how="left")
    frame = frame.sort("user_id", "position")
    interactions = frame.select("user_id", "position", "item_id", "rating", "timestamp", "split")
    users = _users(frame, user_keys, reviews)
    shuffled = in_file_order and params.user_numbers == "random"  # elsewhere user_id is a seeded permutation already
    numbers = histories.shown_numbers(users.height, seed) if shuffled else users["user_id"]
    return users.with_columns(number=numbers), _items(frame, item_keys, metadata), interactions


def _users(frame: pl.DataFrame, user_keys: pl.Series, reviews: pl.DataFrame) -> pl.DataFrame:
    users = frame.group_by("user_id").agg(pl.col("user").first(), num_interactions=pl.len().cast(pl.Int32))
    users = users.sort("user_id").with_columns(user_key=user_keys.gather(users.sort("user_id")["user"]))
    users = users.join(histories.newest_names(reviews), on="user_key", how="left").sort("user_id")
    return users.select("user_id", "user_key", "name", "num_interactions")


def _items(frame: pl.DataFrame, item_keys: pl.Series, metadata: pl.DataFrame) -> pl.DataFrame:
    items = frame.group_by("item_id").agg(
        pl.col("item").first(),
        num_interactions=pl.len().cast(pl.Int32),
        num_train=(pl.col("split") == "train").sum().cast(pl.Int32),
    )
    items = items.sort("item_id")
    items = items.with_columns(item_key=item_keys.gather(items["item"]))
    known = metadata.select("item_key", "title", "brand", category=pl.col("categories").list.last())
    items = items.join(known, on="item_key", how="left").sort("item_id")
    return items.select("item_id", "item_key", "title", "brand", "category", "num_interactions", "num_train")


def _frame(table: Any) -> pl.DataFrame:
    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)  # noqa: S101 - a table, not one column
    return frame
