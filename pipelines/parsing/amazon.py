"""Parses the Amazon formats: one JSON object or Python literal per line to a row or a reject reason.

Reads a block of lines. Returns the columns of the accepted rows and the rejected lines.
Trade-off: review rules exist twice. `fast_reviews` parses well-formed lines; only this module can name a fault, and a
test compares both. Rows are tuples: 20,000 live dictionaries would halve the speed through garbage collection.
"""

import gc
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypedDict

import msgspec
import numpy as np
import orjson
import pyarrow as pa

from features import schema
from pipelines.parsing import cleaning, fast_reviews, python_literals
from pipelines.parsing.line_blocks import Block

Row = tuple[Any, ...]
RowOf = Callable[[Mapping[str, Any]], "Row | str"]
REVIEW_FIELDS = (
    "user_key", "item_key", "rating", "timestamp", "user_name", "headline", "text", "helpful_votes",
    "verified", "variant",
)  # fmt: skip
ITEM_FIELDS = ("item_key", "title", "brand", "price", "categories", "description", "image_url")


@dataclass(frozen=True)
class Parsed:
    """Result of a block: accepted rows, rejected lines, and the number of accepted lines (p5: many rows per line)."""

    rows: pa.Table
    rejects: pa.Table
    kept_lines: int


class ItemObject(TypedDict, total=False):
    """Fields that the item readers use; the other fields, half of a line, are skipped by the decoder."""

    asin: Any
    parent_asin: Any
    title: Any
    brand: Any
    store: Any
    price: Any
    categories: Any
    category: Any
    main_category: Any
    description: Any
    imUrl: Any
    imageURL: Any
    imageURLHighRes: Any
    images: Any


_item_object: Callable[[str], object] = msgspec.json.Decoder(ItemObject).decode


def parse_line(line: bytes, loads: Callable[[str], object] = orjson.loads) -> Mapping[str, Any] | str:
    """Parses a line of JSON or a Python literal; returns the object or a reject reason.

    `loads` decodes literals that were converted to JSON.

    Example:
        >>> parse_line(b"{'asin': 'B1'}"), parse_line(b"[1]"), parse_line(b"{'asin': ")
        ({'asin': 'B1'}, 'not_an_object', 'not_parsable')
    """
    if not line:
        return "not_parsable"
    try:
        value: object = python_literals.parse(line.decode(), loads) if line.startswith(b"{'") else orjson.loads(line)
    except ValueError:
        try:
            value = _parse_loosely(line.decode())
        except UnicodeDecodeError:
            return "not_utf8"
        except (ValueError, RecursionError):
            return "not_parsable"
    return value if isinstance(value, dict) else "not_an_object"


def _parse_loosely(text: str) -> object:
    """Parses JSON that orjson rejects (lone surrogates, NaN), else a Python literal."""
    try:
        return json.loads(text)
    except ValueError:
        return python_literals.parse(text)


def review_2014(record: Mapping[str, Any]) -> Row | str:
    """A review of the 2014 and 2018 dumps; 2018 has votes in another field and adds `verified` and `style`."""
    helpful = record.get("helpful")
    votes = helpful[0] if isinstance(helpful, list) and helpful else record.get("vote")
    return _review(
        record,
        keys=("reviewerID", "asin", "overall", "unixReviewTime"),
        unit=1,
        rest=(record.get("reviewerName"), record.get("summary"), record.get("reviewText"), votes),
        choice=(record.get("verified"), cleaning.choices(record.get("style"))),
    )


def review_2023(record: Mapping[str, Any]) -> Row | str:
    """A review of the 2023 dumps: times in milliseconds, and the key of the parent item of all variants."""
    variant = record.get("asin")
    return _review(
        record,
        keys=("user_id", "parent_asin", "rating", "timestamp"),
        unit=1000,
        rest=(None, record.get("title"), record.get("text"), record.get("helpful_vote")),
        choice=(
            record.get("verified_purchase"),
            cleaning.key(variant) if variant != record.get("parent_asin") else None,
        ),
    )


def _review(record: Mapping[str, Any], keys: tuple[str, str, str, str], unit: int, rest: Row, choice: Row) -> Row | str:
    user, item = cleaning.key(record.get(keys[0])), cleaning.key(record.get(keys[1]))
    if user is None:
        return "missing_user"
    if item is None:
        return "missing_item"
    if (stars := record.get(keys[2])) is None:
        return "missing_rating"
    rating = cleaning.rating(stars)
    if rating is None or not 1 <= rating <= 5:
        return "bad_rating"
    if (when := record.get(keys[3])) is None:
        return "missing_time"
    if (timestamp := cleaning.seconds(when, unit=unit)) is None:
        return "bad_time"
    name, headline, text, votes = rest
    return (
        user,
        item,
        rating,
        timestamp,
        cleaning.text(name),
        cleaning.text(headline),
        cleaning.text(text),
        cleaning.count(votes),
        choice[0] if isinstance(choice[0], bool) else None,
        choice[1],
    )


def item_2014(record: Mapping[str, Any]) -> Row | str:
    """Metadata of the 2014 dumps and of the p5 folders."""
    return _item(record, "asin", "brand", record.get("categories"), [record.get("imUrl")])


def item_2018(record: Mapping[str, Any]) -> Row | str:
    """Metadata of the 2018 dumps."""
    photos = [record.get("imageURLHighRes"), record.get("imageURL")]
    return _item(record, "asin", "brand", record.get("category"), photos)


def item_2023(record: Mapping[str, Any]) -> Row | str:
    """Metadata of the 2023 dumps; an item without a category path has its main category."""
    images = record.get("images")
    if isinstance(images, dict):  # some copies of the dump have lists by size instead of a list of images
        lists = {size: values for size, values in images.items() if isinstance(values, list)}
        longest = max(map(len, lists.values()), default=0)
        images = [{size: (values[n : n + 1] or [None])[0] for size, values in lists.items()} for n in range(longest)]
    shown = [image for image in images if isinstance(image, dict)] if isinstance(images, list) else []
    shown.sort(key=lambda image: image.get("variant") != "MAIN")
    photos = [image.get(size) for image in shown for size in ("hi_res", "large", "thumb")]
    categories = record.get("categories") or [record.get("main_category")]
    return _item(record, "parent_asin", "store", categories, photos)


def _item(record: Mapping[str, Any], key: str, brand: str, categories: object, photos: list[object]) -> Row | str:
    item = cleaning.key(record.get(key))
    if item is None:
        return "missing_item"
    return (
        item,
        cleaning.title(record.get("title")),
        cleaning.text(record.get(brand)),
        cleaning.price(record.get("price")),
        cleaning.path(categories),
        cleaning.joined(record.get("description")),
        cleaning.first_address(photos),
    )


REVIEW_READERS: Mapping[str, tuple[RowOf, fast_reviews.Quick]] = {
    "amazon2014": (review_2014, fast_reviews.QUICK_2014),
    "amazon2018": (review_2014, fast_reviews.QUICK_2014),
    "amazon2023": (review_2023, fast_reviews.QUICK_2023),
}
ITEM_READERS: Mapping[str, RowOf] = {
    "amazon2014": item_2014, "amazon2018": item_2018, "amazon2023": item_2023, "p5": item_2014,
}  # fmt: skip


def read_reviews(block: Block, source: str, form: str) -> Parsed:
    """Parses a block of review lines in the format `form` into rows of `records/reviews` and `records/rejects`."""
    row_of, quick = REVIEW_READERS[form]
    truncated = {len(block.lines) - 1} if block.cut else set[int]()
    unsound = sorted({number - block.first_line for number in block.long} | truncated)
    whole = block.lines
    with _no_collection():
        lines = [b"" if place in unsound else line for place, line in enumerate(whole)] if unsound else whole
        columns, kept, left = fast_reviews.read(lines, quick)
    rows, places, rejects = _rows(block, row_of, left.tolist())
    made = _reviews(columns, kept + block.first_line, source)
    if rows:
        more = dict(zip(REVIEW_FIELDS, map(list, zip(*rows, strict=True)), strict=True))
        typed = {name: pa.array(values, schema.REVIEWS.arrow.field(name).type) for name, values in more.items()}
        made = pa.concat_tables([made, _reviews(typed, np.array(places), source)]).sort_by("line")
    return Parsed(made, rejected(source, rejects), made.num_rows)


def _reviews(columns: Mapping[str, pa.Array], numbers: np.ndarray, source: str) -> pa.Table:
    nothing = pa.nulls(len(numbers), pa.string())
    known = dict(columns) | {
        "feature": nothing,
        "explanation": nothing,
        "source": pa.repeat(source, len(numbers)),
        "line": pa.array(numbers, pa.int64()),
        "position": pa.array(np.zeros(len(numbers), np.int32)),
    }
    return pa.Table.from_arrays([known[column.name] for column in schema.REVIEWS.columns], schema=schema.REVIEWS.arrow)


def read_items(block: Block, source: str, row_of: RowOf) -> Parsed:
    """Parses a block of metadata lines into rows of `records/items` and `records/rejects`."""
    rows, places, rejects = _rows(block, row_of, loads=_item_object)
    columns = _columns(rows, ITEM_FIELDS, places, source)
    return Parsed(_arrow(schema.ITEMS, columns), rejected(source, rejects), len(rows))


def _rows(
    block: Block, row_of: RowOf, only: Sequence[int] | None = None, loads: Callable[[str], object] = orjson.loads
) -> tuple[list[Row], list[int], list[tuple[int, str, bytes]]]:
    """Accepted rows, their line numbers, and the rejected lines; only of the indices `only`, if given."""
    rows: list[Row] = []
    places: list[int] = []
    rejects: list[tuple[int, str, bytes]] = []
    with _no_collection():
        for number, line, reason in numbered(block, only):
            record = reason or parse_line(line, loads)
            row = record if isinstance(record, str) else row_of(record)
            if isinstance(row, str):
                rejects.append((number, row, line))
            else:
                rows.append(row)
                places.append(number)
    return rows, places, rejects


def numbered(block: Block, only: Sequence[int] | None = None) -> Iterator[tuple[int, bytes, str | None]]:
    """Yields (line number, line, reason); the reason is set for lines that must not be parsed."""
    last = block.first_line + len(block.lines) - 1
    for place in range(len(block.lines)) if only is None else only:
        number, line = block.first_line + place, block.lines[place]
        reason = "line_too_long" if number in block.long else None
        yield number, line, "truncated_file" if block.cut and number == last else reason


def rejected(source: str, lines: list[tuple[int, str, bytes]]) -> pa.Table:
    """Rows of `records/rejects` from (line number, reason, line)."""
    numbers = [number for number, _, _ in lines]
    columns: dict[str, list[Any]] = {
        "source": [source] * len(lines),
        "line": numbers,
        "reason": [reason for _, reason, _ in lines],
        "excerpt": [cleaning.excerpt(line) for _, _, line in lines],
    }
    return _arrow(schema.REJECTS, columns)


def _columns(rows: list[Row], names: tuple[str, ...], places: list[int], source: str) -> dict[str, list[Any]]:
    values = list(zip(*rows, strict=True)) or [()] * len(names)
    columns: dict[str, list[Any]] = {name: list(column) for name, column in zip(names, values, strict=True)}
    return columns | {"source": [source] * len(rows), "line": places}


def _arrow(table: schema.Table, columns: Mapping[str, list[Any]]) -> pa.Table:
    arrays = [pa.array(columns[column.name], type=column.type) for column in table.columns]
    return pa.Table.from_arrays(arrays, schema=table.arrow)


@contextmanager
def _no_collection() -> Iterator[None]:
    """Disables the garbage collector while a block's many small, acyclic objects are created."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
