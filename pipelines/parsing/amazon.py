"""Parses the Amazon formats: one JSON object or Python literal per line to a row or a reject reason.

Reads a block of lines. Returns the columns of the accepted rows and the rejected lines.
Trade-off: review rules exist twice. `fast_reviews` parses well-formed lines; only this module can name a fault, and a
test compares both. Rows are tuples: 20,000 live dictionaries would halve the speed through garbage collection.
"""

import gc
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypedDict

import msgspec
import numpy as np
import orjson
import pyarrow as pa

from features import schema
from pipelines.parsing import amazon_rows, cleaning, fast_reviews, python_literals
from pipelines.parsing.amazon_rows import ITEM_FIELDS, REVIEW_FIELDS, Row, RowOf
from pipelines.parsing.lenient_values import Fault, Reading
from pipelines.parsing.line_blocks import Block

Reject = tuple[int, str, bytes | str]
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class Parsed:
    """Result of a block: accepted rows, rejected lines, and the number of accepted lines (p5: many rows per line).

    `taken` counts the values of accepted lines that were taken leniently, by their names in `lenient_values.TAKEN`.
    """

    rows: pa.Table
    rejects: pa.Table
    kept_lines: int
    taken: Mapping[str, int] = field(default_factory=dict)


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


REVIEW_READERS: Mapping[str, tuple[RowOf, fast_reviews.Quick]] = {
    "amazon2014": (amazon_rows.review_2014, fast_reviews.QUICK_2014),
    "amazon2018": (amazon_rows.review_2014, fast_reviews.QUICK_2014),
    "amazon2023": (amazon_rows.review_2023, fast_reviews.QUICK_2023),
}
ITEM_READERS: Mapping[str, RowOf] = {
    "amazon2014": amazon_rows.item_2014,
    "amazon2018": amazon_rows.item_2018,
    "amazon2023": amazon_rows.item_2023,
    "p5": amazon_rows.item_2014,
}


def read_reviews(block: Block, source: str, form: str, reading: Reading | None = None) -> Parsed:
    """Parses a block of review lines in the format `form` into rows of `records/reviews` and `records/rejects`."""
    reading = reading or Reading()
    row_of, quick = REVIEW_READERS[form]
    truncated = {len(block.lines) - 1} if block.cut else set[int]()
    unsound = sorted({number - block.first_line for number in block.long} | truncated)
    whole = block.lines
    with _no_collection():
        lines = [b"" if place in unsound else line for place, line in enumerate(whole)] if unsound else whole
        columns, kept, left = fast_reviews.read(lines, quick, reading)
    rows, places, rejects = _rows(block, row_of, reading, left.tolist())
    made = _reviews(columns, kept + block.first_line, source)
    if rows:
        more = dict(zip(REVIEW_FIELDS, map(list, zip(*rows, strict=True)), strict=True))
        typed = {name: pa.array(values, schema.REVIEWS.arrow.field(name).type) for name, values in more.items()}
        made = pa.concat_tables([made, _reviews(typed, np.array(places), source)]).sort_by("line")
    return Parsed(made, rejected(source, rejects), made.num_rows, reading.taken)


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


def read_items(block: Block, source: str, row_of: RowOf, reading: Reading | None = None) -> Parsed:
    """Parses a block of metadata lines into rows of `records/items` and `records/rejects`."""
    reading = reading or Reading()
    rows, places, rejects = _rows(block, row_of, reading, loads=_item_object)
    columns = _columns(rows, ITEM_FIELDS, places, source)
    return Parsed(_arrow(schema.ITEMS, columns), rejected(source, rejects), len(rows), reading.taken)


def _rows(
    block: Block,
    row_of: RowOf,
    reading: Reading,
    only: Sequence[int] | None = None,
    loads: Callable[[str], object] = orjson.loads,
) -> tuple[list[Row], list[int], list[Reject]]:
    """Accepted rows, their line numbers, and the rejected lines; only of the indices `only`, if given."""
    rows: list[Row] = []
    places: list[int] = []
    rejects: list[Reject] = []
    with _no_collection():
        for number, line, reason in numbered(block, only):
            row = Fault(reason, cleaning.excerpt(line)) if reason else _row(line, row_of, reading, loads)
            if isinstance(row, Fault):
                rejects.append((number, row.reason, row.shown))
            else:
                rows.append(row)
                places.append(number)
    if block.first_line == 1 and places[:1] == [1] and block.lines[0].startswith(_BYTE_ORDER_MARK):
        reading.taken["byte_order_mark"] += 1
    return rows, places, rejects


def _row(line: bytes, row_of: RowOf, reading: Reading, loads: Callable[[str], object]) -> Row | Fault:
    try:
        record = parse_line(line, loads)
        return Fault(record, cleaning.excerpt(line)) if isinstance(record, str) else row_of(record, reading)
    except Exception as error:  # noqa: BLE001 - whatever one line does to a parser concerns that line only
        return Fault("unreadable", f"{type(error).__name__}: {error}")


def numbered(block: Block, only: Sequence[int] | None = None) -> Iterator[tuple[int, bytes, str | None]]:
    """Yields (line number, line, reason); the reason is set for lines that must not be parsed."""
    last = block.first_line + len(block.lines) - 1
    for place in range(len(block.lines)) if only is None else only:
        number, line = block.first_line + place, block.lines[place]
        line = line.removeprefix(_BYTE_ORDER_MARK) if number == 1 else line
        reason = "line_too_long" if number in block.long else None
        yield number, line, "truncated_file" if block.cut and number == last else reason


def rejected(source: str, lines: Sequence[Reject]) -> pa.Table:
    """Rows of `records/rejects` from (line number, reason, offending value or line)."""
    columns: dict[str, list[Any]] = {
        "source": [source] * len(lines),
        "line": [number for number, _, _ in lines],
        "reason": [reason for _, reason, _ in lines],
        "excerpt": [cleaning.excerpt(shown) for _, _, shown in lines],
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
