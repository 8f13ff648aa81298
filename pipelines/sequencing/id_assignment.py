"""Assigns numbers to users and items, and builds the rows of the three tables from ordered histories.

Reads the frames that an engine wrote. Returns the frames of `sequences/users` and `sequences/items`, and the
interactions partitioned into the parts of their table.
Trade-off: numbers depend on all surviving keys, so users and items (not interactions) are held in memory.
"""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path

import polars as pl

from features import schema
from features.runtime import datasets, stage
from features.runtime.matching import Matching
from features.store import tables
from features.store.tables import ROWS_PER_PART
from pipelines.sequencing import empty_core, key_hashing, transforms
from pipelines.sequencing.config import Params
from pipelines.sequencing.frame_store import Pieces

log = logging.getLogger("vip5")
NUMBERS = {"user": ("user", "user_id", "part"), "item": ("item", "item_id")}
INTERACTION_COLUMNS = ("user_id", "position", "item_id", "rating", "timestamp", "split")


def assign(
    params: Params, context: stage.Context, pieces: Pieces, reviews: Mapping[Path, int]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Assigns user and item numbers; returns the results of `users` and `items`, given the tables of an earlier run.

    `reviews` maps the parts of `records/reviews` to their number of rows.

    Raises:
        TableError: The k-core is empty.
    """
    in_file_order = datasets.dataset(context.shared, context.dataset).format in ("p5", "sequences", "openp5")
    known = _previous(params.previous_users, context, schema.USERS, ("user_key", "user_id", "number"))
    numbered_users = users(pieces, params, context.seed, in_file_order=in_file_order, previous=known)
    if numbered_users.height == 0:
        raise empty_core.explained(list(reviews), params)
    catalogue = _previous(params.previous_items, context, schema.CATALOGUE, ("item_id", "item_key"))
    numbered_items = items(pieces, numbered_users, params.numbering, context.seed, catalogue)
    log.info(
        "sequences: %s users, %s items, %s interactions of %s reviews", numbered_users.height, numbered_items.height,
        numbered_users["num_interactions"].sum(), sum(reviews.values()),
    )  # fmt: skip
    if params.numbering == "p5":
        log.warning("sequences: numbering p5 leaks: item numbers follow complete histories, including test items")
    return numbered_users, numbered_items


def _previous(
    path: str | None, context: stage.Context, table: schema.Table, columns: tuple[str, ...]
) -> pl.DataFrame | None:
    """Keys and numbers of the earlier run, or None."""
    if path is None:
        return None
    rows = pl.from_arrow(tables.read_table(context.root / path, table, columns=columns))
    assert isinstance(rows, pl.DataFrame)  # noqa: S101 - a table, not one column
    return rows


def users(
    pieces: Pieces, params: Params, seed: int, *, in_file_order: bool, rows_per_part: int = ROWS_PER_PART,
    previous: pl.DataFrame | None = None,
) -> pl.DataFrame:  # fmt: skip
    """Assigns user numbers: `user`, `user_id`, `user_key`, `name`, `number`, `num_interactions`, `part`, by `user_id`.

    Users of `previous` (`user_key`, `user_id`, `number` of an earlier run) keep their numbers.
    """
    counted = pl.concat(pieces.lazily("user_counts-")).collect()
    keyed = key_hashing.resolve_keys(pieces.lazily("user_keys-"), "user", counted)
    numbered = transforms.user_numbers(keyed, seed, in_file_order=in_file_order)
    shuffled = in_file_order and params.user_numbers == "random"  # otherwise user_id is a seeded permutation already
    number = transforms.shown_numbers(numbered.height, seed) if shuffled else numbered["user_id"]
    numbered = numbered.with_columns(number=number)
    if previous is not None:
        numbered = transforms.kept_user_numbers(numbered, previous)
    if params.user_numbers == "table":
        numbered = numbered.with_columns(number="user_id")
    before = pl.col("num").cast(pl.Int64).cum_sum() - pl.col("num")
    part = (before // rows_per_part).cast(pl.Int32)
    return numbered.select("user", "user_id", "user_key", "name", "number", num_interactions="num", part=part)


def items(
    pieces: Pieces, numbered_users: pl.DataFrame, numbering: transforms.Numbering, seed: int,
    previous: pl.DataFrame | None = None,
) -> pl.DataFrame:  # fmt: skip
    """Assigns item numbers: `item`, `item_id`, `item_key`, `num_interactions`, `num_train`, by `item_id`.

    Items of `previous` (`item_id`, `item_key` of an earlier run) keep their numbers.
    """
    counted = pl.concat(pieces.lazily("item_counts-")).group_by("item").agg(pl.all().sum()).collect(engine="streaming")
    keyed = key_hashing.resolve_keys(pieces.lazily("item_keys-"), "item", counted)
    if numbering != "random":
        ids = numbered_users.select("user", "user_id")
        seen = [
            transforms.first_seen(pieces.read(name).join(ids, on="user"), numbering)
            for name in pieces.names("ordered-")
        ]
        keyed = keyed.join(pl.concat(seen).group_by("item").agg(pl.col("seen").min()), on="item", how="left")
    numbered = transforms.item_numbers(keyed, numbering, seed)
    if previous is not None:
        numbered = transforms.kept_numbers(numbered, previous)
    return numbered.select("item", "item_id", "item_key", "num_interactions", "num_train")


def match_metadata(numbered_items: pl.DataFrame, metadata: pl.LazyFrame) -> Matching:
    """How the rows of `records/items` fit the catalogue; rows of items without reviews are normal."""
    keys = numbered_items.lazy().select("item_key")
    rows = metadata.select("item_key")
    total = rows.select(pl.len()).collect(engine="streaming").item()
    used = rows.join(keys, on="item_key", how="semi").select(pl.len()).collect(engine="streaming").item()
    strange = rows.join(keys, on="item_key", how="anti").select(pl.col("item_key").min()).collect(engine="streaming")
    without = keys.join(rows, on="item_key", how="anti").collect(engine="streaming")["item_key"].sort().to_list()
    return Matching(
        kind="metadata rows", total=total, used=used, unmatched=total - used, unmatched_name=strange.item(),
        unknown=None, items=numbered_items.height, without=len(without), without_key=next(iter(without), None),
    )  # fmt: skip


def with_metadata(numbered_items: pl.DataFrame, metadata: pl.LazyFrame) -> pl.DataFrame:
    """The rows of `sequences/items`: adds the dump's metadata to each item, null if there is none.

    Args:
        numbered_items: Result of `items`.
        metadata: `item_key`, `title`, `brand` and `categories` of `records/items`.
    """
    known = metadata.join(numbered_items.lazy().select("item_key"), on="item_key", how="semi").select(
        "item_key", "title", "brand", category=pl.col("categories").list.last()
    )
    described = numbered_items.join(known.collect(engine="streaming"), on="item_key", how="left").sort("item_id")
    return described.select("item_id", "item_key", "title", "brand", "category", "num_interactions", "num_train")


def numbered(ordered: pl.DataFrame, users_of: pl.DataFrame, items_of: pl.DataFrame) -> pl.DataFrame:
    """The rows of `sequences/interactions` from ordered histories, with `part`, in key order."""
    rows = ordered.join(users_of.select(NUMBERS["user"]), on="user").join(items_of.select(NUMBERS["item"]), on="item")
    return transforms.with_split(rows).select(*INTERACTION_COLUMNS, "part").sort("user_id", "position")


def by_part(rows: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    """Partitions the result of `numbered`; yields (part, rows in key order)."""
    rows_by_part = rows.partition_by("part", include_key=False, as_dict=True)
    for (part,) in sorted(rows_by_part):
        yield int(part), rows_by_part[(part,)]


def parts(pieces: Pieces, users_of: pl.DataFrame, items_of: pl.DataFrame) -> Iterator[tuple[int, pl.DataFrame]]:
    """Yields the parts of `sequences/interactions`: (number, rows in key order). A user is in one part."""
    names = pieces.names("ordered-")
    for name in names:
        pieces.write(f"numbered-{name}", numbered(pieces.read(name), users_of, items_of))
        pieces.drop(name)
    num_parts = int(users_of["part"].max() or 0) + 1  # type: ignore[arg-type]
    for part, partition in pieces.partitions("numbered-", "part", num_parts):
        rows = partition.sort("user_id", "position")
        if rows.height:
            yield part, rows.select(INTERACTION_COLUMNS)
