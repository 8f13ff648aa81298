"""The Amazon formats: one parsed object to one row, or to the reason why it cannot be one.

Enters: a block of lines. Leaves: the columns of the accepted rows and the rejected lines.
Trade-off: rows are plain tuples and become Arrow columns a block at a time; keeping 20,000 dictionaries alive would
halve the speed through garbage collection.
"""

import gc
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import pyarrow as pa

from features import schema
from pipelines import cleaning, literals
from pipelines.dump_lines import Block

Row = tuple[Any, ...]
RowOf = Callable[[Mapping[str, Any]], "Row | str"]
REVIEW_FIELDS = ("user_key", "item_key", "rating", "timestamp", "user_name", "headline", "text", "helpful_votes")
ITEM_FIELDS = ("item_key", "title", "brand", "price", "categories", "description", "image_url")


@dataclass(frozen=True)
class Parsed:
    """What a block gave: accepted rows, rejected lines, and how many lines were accepted (p5: many rows a line)."""

    rows: pa.Table
    rejects: pa.Table
    kept_lines: int


def parse_line(line: bytes) -> Mapping[str, Any] | str:
    """The object of a line, JSON or Python literal, or the reason why there is none.

    Example:
        >>> parse_line(b"{'asin': 'B1'}"), parse_line(b"[1]"), parse_line(b"{'asin': ")
        ({'asin': 'B1'}, 'not_an_object', 'not_parsable')
    """
    try:
        value: object = orjson.loads(line)
    except orjson.JSONDecodeError:
        try:
            value = _parse_loosely(line.decode("utf-8"))
        except UnicodeDecodeError:
            return "not_utf8"
        except (ValueError, RecursionError):
            return "not_parsable"
    return value if isinstance(value, dict) else "not_an_object"


def _parse_loosely(text: str) -> object:
    """JSON that orjson refuses (lone surrogates, NaN), else a Python literal."""
    try:
        return json.loads(text)
    except ValueError:
        return literals.parse(text)


def review_2014(record: Mapping[str, Any]) -> Row | str:
    """A review of the 2014 and 2018 dumps, which differ in how they count helpful votes alone."""
    helpful = record.get("helpful")
    votes = helpful[0] if isinstance(helpful, list) and helpful else record.get("vote")
    return _review(
        record,
        keys=("reviewerID", "asin", "overall", "unixReviewTime"),
        unit=1,
        rest=(record.get("reviewerName"), record.get("summary"), record.get("reviewText"), votes),
    )


def review_2023(record: Mapping[str, Any]) -> Row | str:
    """A review of the 2023 dumps: milliseconds, and the key of the parent item, which unites its variants."""
    return _review(
        record,
        keys=("user_id", "parent_asin", "rating", "timestamp"),
        unit=1000,
        rest=(None, record.get("title"), record.get("text"), record.get("helpful_vote")),
    )


def _review(record: Mapping[str, Any], keys: tuple[str, str, str, str], unit: int, rest: Row) -> Row | str:
    user, item = cleaning.text(record.get(keys[0])), cleaning.text(record.get(keys[1]))
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
    shown = [image for image in images if isinstance(image, dict)] if isinstance(images, list) else []
    shown.sort(key=lambda image: image.get("variant") != "MAIN")
    photos = [image.get(size) for image in shown for size in ("hi_res", "large", "thumb")]
    categories = record.get("categories") or [record.get("main_category")]
    return _item(record, "parent_asin", "store", categories, photos)


def _item(record: Mapping[str, Any], key: str, brand: str, categories: object, photos: list[object]) -> Row | str:
    item = cleaning.text(record.get(key))
    if item is None:
        return "missing_item"
    return (
        item,
        cleaning.text(record.get("title")),
        cleaning.text(record.get(brand)),
        cleaning.price(record.get("price")),
        cleaning.path(categories),
        cleaning.joined(record.get("description")),
        cleaning.first_address(photos),
    )


REVIEW_READERS: Mapping[str, RowOf] = {
    "amazon2014": review_2014,
    "amazon2018": review_2014,
    "amazon2023": review_2023,
}
ITEM_READERS: Mapping[str, RowOf] = {
    "amazon2014": item_2014,
    "amazon2018": item_2018,
    "amazon2023": item_2023,
    "p5": item_2014,
}


def read_reviews(block: Block, source: str, row_of: RowOf) -> Parsed:
    """The rows of `records/reviews` and `records/rejects` that a block of review lines gives."""
    rows, places, rejects = _rows(block, row_of)
    columns = _columns(rows, REVIEW_FIELDS, places, source) | {"position": [0] * len(rows)}
    return Parsed(_arrow(schema.REVIEWS, columns), rejected(source, rejects), len(rows))


def read_items(block: Block, source: str, row_of: RowOf) -> Parsed:
    """The rows of `records/items` and `records/rejects` that a block of metadata lines gives."""
    rows, places, rejects = _rows(block, row_of)
    columns = _columns(rows, ITEM_FIELDS, places, source)
    return Parsed(_arrow(schema.ITEMS, columns), rejected(source, rejects), len(rows))


def _rows(block: Block, row_of: RowOf) -> tuple[list[Row], list[int], list[tuple[int, str, bytes]]]:
    rows: list[Row] = []
    places: list[int] = []
    rejects: list[tuple[int, str, bytes]] = []
    with _no_collection():
        for number, line, reason in numbered(block):
            record = reason or parse_line(line)
            row = record if isinstance(record, str) else row_of(record)
            if isinstance(row, str):
                rejects.append((number, row, line))
            else:
                rows.append(row)
                places.append(number)
    return rows, places, rejects


def numbered(block: Block) -> Iterator[tuple[int, bytes, str | None]]:
    """(line number, line, reason) where the reason is given for a line that must not even be parsed."""
    last = block.first_line + len(block.lines) - 1
    for number, line in enumerate(block.lines, block.first_line):
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
    """Stops the cycle collector while a block's many small objects, none of them cyclic, are made."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
