"""Declares every table of the pipeline: names, types, nullability, meaning and unit of each column.

Writers and readers validate against these `Table` values; `docs/reference/tables.md` is generated from them.
Trade-off: schemas are declared, not inferred, so that a missing column fails in the stage that omitted it.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

SPLITS = ("train", "valid", "test")
FAMILIES = ("sequential", "direct", "explanation")
PROMPT_TABLES = (*((split, family) for split in SPLITS for family in FAMILIES), ("train", "language"))
VARIANTS = ("published", "history")
PHOTO_STATUSES = ("ok", "missing", "rejected")
PHOTO_TREATMENTS = ("first_frame", "from_cmyk", "from_16_bit", "on_white", "rotated", "misnamed")


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column: Arrow type, nullability, meaning, unit, closed set of values and range."""

    name: str
    type: pa.DataType
    meaning: str
    nullable: bool = False
    unit: str = ""
    values: tuple[str, ...] = ()
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True)
class Table:
    """A declared table. `name` is its folder in `data/${dataset}/`; rows are sorted by `key` and unique by it.

    `zstd_level` is 1 for tables with much text, where level 3 would take half of the stage's time (level 1 gives 14 %
    more bytes), and for vectors, which level 3 does not make smaller.
    `unique` is False if the key sorts rows without identifying them (such as several explanations per interaction).
    """

    name: str
    meaning: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]
    unique: bool = True
    zstd_level: int = 3

    @property
    def arrow(self) -> pa.Schema:
        """The Arrow schema, with meanings and units in the field metadata."""
        return pa.schema(
            [
                pa.field(c.name, c.type, nullable=c.nullable, metadata={"meaning": c.meaning, "unit": c.unit})
                for c in self.columns
            ]
        )

    @property
    def metadata(self) -> dict[str, str]:
        """Metadata of a Parquet file: the table, its meaning, and `columns`.

        `columns` repeats every column's meaning and unit as JSON, because DuckDB and Polars show a file's own
        metadata and not Arrow's by field.

        Example:
            >>> CANDIDATES.metadata["columns"][:60]
            '{"user_id": {"meaning": "user number, 1 to U", "unit": ""}, '
        """
        columns = {c.name: {"meaning": c.meaning, "unit": c.unit} for c in self.columns}
        return {"table": self.name, "meaning": self.meaning, "columns": json.dumps(columns, ensure_ascii=False)}


def _column(nullable: bool, name: str, type_: pa.DataType, meaning: str, **more: object) -> Column:
    return Column(name=name, type=type_, meaning=meaning, nullable=nullable, **more)  # type: ignore[arg-type]


def _req(name: str, type_: pa.DataType, meaning: str, **more: object) -> Column:
    return _column(False, name, type_, meaning, **more)


def _opt(name: str, type_: pa.DataType, meaning: str, **more: object) -> Column:
    return _column(True, name, type_, meaning, **more)


STR, I32, I64, F32 = pa.string(), pa.int32(), pa.int64(), pa.float32()
IDS = pa.list_(pa.field("element", pa.int32(), nullable=False))
TEXTS = pa.list_(pa.field("element", pa.string(), nullable=False))

_USER_ID = _req("user_id", I32, "user number, 1 to U", minimum=1)
_ITEM_ID = _req("item_id", I32, "item number, 1 to I; a join key that no prompt shows by itself", minimum=1)
_SPLIT = _req("split", STR, "train, valid (the second to last interaction of a user) or test (the last)", values=SPLITS)
_SOURCE = _req("source", STR, "file name in the dump")
_LINE = _req("line", I64, "line number in that file, from 1", minimum=1)

REVIEWS = Table("records/reviews", "one row per accepted review line", ("source", "line", "position"), (
    _req("user_key", STR, "the dump's own key of the user (reviewerID, user_id)"),
    _req("item_key", STR, "the dump's own key of the item (asin, parent_asin)"),
    _opt("rating", F32, "stars, within the dataset's rating_range; null where the format has none (p5)", unit="stars"),
    _opt("timestamp", I64, "time of the review; null where the dump has none", unit="seconds since 1970, UTC",
         minimum=0, maximum=2**33 - 1),
    _opt("user_name", STR, "display name, as the user wrote it"),
    _opt("headline", STR, "the review's summary line"),
    _opt("text", STR, "the review's text"),
    _opt("helpful_votes", I32, "readers who found the review helpful", unit="votes", minimum=0),
    _opt("feature", STR, "feature word of a published explanation (p5's exp_splits.pkl)"),
    _opt("explanation", STR, "a published explanation sentence, taken by the stage explanations as it is"),
    _opt("verified", pa.bool_(), "whether the dump says the purchase was verified; null where it does not say (2014)"),
    _opt("variant", STR, "chosen variant: size, colour and so on (2018), the variant's own key (2023)"),
    _SOURCE,
    _LINE,
    _req("position", I32, "0, or the order where there are no times: the place in a sequence, or the line", minimum=0),
), zstd_level=1)  # fmt: skip

ITEMS = Table("records/items", "one row per accepted metadata line", ("source", "line"), (
    _req("item_key", STR, "the dump's own key of the item (asin, parent_asin)"),
    _opt("title", STR, "product title"),
    _opt("brand", STR, "brand or store"),
    _opt("price", F32, "price as listed", unit="US dollars", minimum=0),
    _req("categories", TEXTS, "category path, from the widest to the narrowest, without duplicates"),
    _opt("description", STR, "product description"),
    _opt("image_url", STR, "address of the main photo"),
    _SOURCE,
    _LINE,
))  # fmt: skip

REJECT_REASONS = (
    "not_utf8", "not_parsable", "not_an_object", "missing_user", "missing_item", "missing_rating", "bad_rating",
    "missing_time", "bad_time", "line_too_long", "truncated_file", "duplicate_item", "bad_sequence", "unknown_number",
    "bad_key", "unreadable",
)  # fmt: skip

REJECTS = Table("records/rejects", "one row per line that could not be accepted", ("source", "line"), (
    _SOURCE,
    _LINE,
    _req("reason", STR, "why, from a closed set", values=REJECT_REASONS),
    _req("excerpt", STR, "the offending value, or the beginning of the line; at most 200 characters"),
))  # fmt: skip

USERS = Table("sequences/users", "one row per user that survived the k-core", ("user_id",), (
    _USER_ID,
    _req("user_key", STR, "the dump's own key of the user"),
    _opt("name", STR, "display name of the newest review that has one"),
    _req("number", I32, "number of the user in prompts; a seeded permutation unless sequences.user_numbers is table",
         minimum=1),
    _req("num_interactions", I32, "interactions of the user over all splits", minimum=1),
))  # fmt: skip

CATALOGUE = Table("sequences/items", "one row per item that survived the k-core", ("item_id",), (
    _ITEM_ID,
    _req("item_key", STR, "the dump's own key of the item"),
    _opt("title", STR, "product title"),
    _opt("brand", STR, "brand or store"),
    _opt("category", STR, "narrowest category of the path"),
    _req("num_interactions", I32, "interactions with the item over all splits", minimum=0),
    _req("num_train", I32, "interactions with the item in the train split", minimum=0),
))  # fmt: skip

INTERACTIONS = Table("sequences/interactions", "one row per interaction, in time order", ("user_id", "position"), (
    _USER_ID,
    _req("position", I32, "place in the user's time order, from 1", minimum=1),
    _ITEM_ID,
    _opt("rating", F32, "stars; null where the dump has none", unit="stars"),
    _opt("timestamp", I64, "time of the review; null where the dump has none", unit="seconds since 1970, UTC"),
    _SPLIT,
))  # fmt: skip

EXPLANATIONS = Table(
    "explanations", "sentences about a feature of the item", ("user_id", "item_id", "feature", "sentence"), (
    _USER_ID,
    _ITEM_ID,
    _req("rating", F32, "stars of the review the sentence comes from", unit="stars"),
    _opt("headline", STR, "the review's summary line"),
    _req("feature", STR, "aspect word of the sentence"),
    _req("sentence", STR, "one sentence of the review"),
    _SPLIT,
))  # fmt: skip

SENTENCES = Table("sentences", "every usable sentence of the train reviews", ("user_id", "item_id", "sentence"), (
    _USER_ID,
    _ITEM_ID,
    _req("rating", F32, "stars of the review the sentence comes from", unit="stars"),
    _req("word", STR, "a noun or adjective of the sentence, in lower case, drawn by the seed"),
    _req("sentence", STR, "one sentence of the review"),
), zstd_level=1)  # fmt: skip

CANDIDATES = Table("candidates", "fixed negatives of the direct task", ("user_id", "split"), (
    _USER_ID,
    _req("split", STR, "valid or test", values=("valid", "test")),
    _req("item_ids", IDS, "distinct items that the user never interacted with, ascending"),
))  # fmt: skip

IDENTIFIERS = Table("identifiers", "text of each item in prompts", ("item_id",), (
    _ITEM_ID,
    _req("code", IDS, "parts of the identifier as numbers, unique per item"),
    _req("text", STR, "the identifier in prompts, unique per item"),
))  # fmt: skip


def _vector(width: int) -> pa.DataType:
    return pa.list_(pa.field("element", pa.float16(), nullable=False), width)


def embeddings(width: int) -> Table:
    """The table `images/embeddings` with vectors of length `width` (taken from the encoder, not configured)."""
    return Table("images/embeddings", "one row per item of the catalogue, photo or not", ("item_id",), (
        _ITEM_ID,
        _req("embedding", _vector(width), "CLIP image feature; zeros unless status is ok"),
        _req("status", STR, "ok, missing (no photo) or rejected (see images/rejects)", values=PHOTO_STATUSES),
        _opt("sha256", STR, "digest of the (first) photo's bytes, null where there is none"),
        _opt("treatment", STR, f"processing of a used photo, of {', '.join(PHOTO_TREATMENTS)}; null: nothing"),
    ), zstd_level=1)  # fmt: skip


def text_embeddings(width: int) -> Table:
    """The table `texts` with vectors of length `width`."""
    return Table("texts", "one row per item of the catalogue", ("item_id",), (
        _ITEM_ID,
        _req("embedding", _vector(width), "CLIP text feature of the title; zeros where there is none"),
    ), zstd_level=1)  # fmt: skip


PHOTO_REJECT_REASONS = (
    "not_an_image", "truncated", "too_large", "absurd_aspect", "too_small", "empty", "placeholder", "animated",
    "unsafe_name", "not_a_file", "not_a_vector", "digest_mismatch",
    "unreadable",
)  # fmt: skip

PHOTO_REJECTS = Table("images/rejects", "one row per photo that could not be encoded", ("item_id", "source"), (
    _ITEM_ID,
    _req("source", STR, "file name below the dump's photo folder or archive"),
    _req("reason", STR, "why, from a closed set", values=PHOTO_REJECT_REASONS),
    _req("detail", STR, "message of the decoder, at most 200 characters"),
))  # fmt: skip


def prompts(split: str, family: str) -> Table:
    """The table `prompts/<split>/<family>`, or `prompts/train/language`, whose rows are of the family explanation."""
    return Table(f"prompts/{split}/{family}", "one row per rendered example", ("example_id",), (
        _req("example_id", I64, "number of the example within its table, from 0", minimum=0),
        _req("split", STR, "train, valid or test", values=SPLITS),
        _req("family", STR, "sequential, direct or explanation", values=FAMILIES),
        _req("prompt_id", STR, "A-1 to A-9, B-1 to B-8, C-1 to C-12, or L-1 to L-31 in train/language"),
        _req("variant", STR, "published, or history where a direct prompt shows it too", values=VARIANTS),
        _req("round", I32, "which draw of the epoch cycle, from 0", minimum=0),
        _USER_ID,
        _opt("target_item_id", I32, "the target item; null in explanations", minimum=1),
        _req("image_item_ids", IDS, "items whose photos appear in the source, in text order"),
        _opt("candidate_item_ids", IDS, "the candidates in text order; null where there are none"),
        _req("source", STR, "encoder input"),
        _req("target", STR, "decoder target"),
    ))  # fmt: skip


PREDICTIONS = Table("predictions", "the ranked items of every test user and prompt", ("prompt_id", "user_id", "rank"), (
    _USER_ID,
    _req("prompt_id", STR, "A-1 to C-12; a colon and the variant follow where it is not the published one"),
    _req("rank", I32, "place in the ranking, from 1", minimum=1),
    _ITEM_ID,
    _req("score", F32, "log-probability of the item's identifier", unit="nats"),
))  # fmt: skip

GENERATED = Table(
    "explanations_generated", "VIP5's output for every test row of the explanation prompts",
    ("prompt_id", "user_id", "item_id", "reference", "generated"), (
    _USER_ID,
    _req("prompt_id", STR, "C-1 to C-12"),
    _req("item_id", I32, "the item; 0 if the prompt does not show it", minimum=0),
    _req("generated", STR, "the model's sentence, decoded greedily"),
    _req("reference", STR, "the user's sentence"),
), unique=False)  # fmt: skip


def by_name(name: str) -> Table | Callable[[int], Table]:
    """The declared table `name`; the two embedding tables are returned as functions of their width.

    Raises:
        KeyError: no such table.
    """
    fixed = (
        REVIEWS,
        ITEMS,
        REJECTS,
        USERS,
        CATALOGUE,
        INTERACTIONS,
        EXPLANATIONS,
        SENTENCES,
        CANDIDATES,
        IDENTIFIERS,
        PHOTO_REJECTS,
        PREDICTIONS,
        GENERATED,
    )
    tables: dict[str, Table | Callable[[int], Table]] = {table.name: table for table in fixed}
    tables |= {f"prompts/{s}/{f}": prompts(s, f) for s, f in PROMPT_TABLES}
    tables |= {"images/embeddings": embeddings, "texts": text_embeddings}
    return tables[name]
