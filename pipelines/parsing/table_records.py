"""Turns the rows of a table into JSON lines, as the dumps have them: CSV exports of a dump, and tables of items.

Reads a row of cells, or of Parquet values, by column name. Returns the line that the Amazon readers parse.
Trade-off: writing and reading JSON costs as much as the row's own parsing, but one set of rules serves all layouts.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson
import pyarrow as pa

from pipelines.parsing import python_literals, times
from pipelines.parsing.table_columns import Kind

AMAZON_FIELDS: Mapping[Kind, frozenset[str]] = {
    "reviews": frozenset((
        "reviewerID", "asin", "overall", "unixReviewTime", "reviewerName", "summary", "reviewText", "helpful", "vote",
        "verified", "style", "user_id", "parent_asin", "rating", "timestamp", "title", "text", "helpful_vote",
        "verified_purchase", "reviewTime",
    )),
    "items": frozenset((
        "asin", "parent_asin", "title", "brand", "store", "price", "categories", "category", "main_category",
        "description", "imUrl", "imageURL", "imageURLHighRes", "images",
    )),
}  # fmt: skip
_NUMBERS = frozenset(("overall", "rating", "helpful_vote", "unixReviewTime", "timestamp"))
_TIMES = {"unixReviewTime": 1, "timestamp": 1000}
_NESTED = frozenset((
    "helpful", "style", "categories", "category", "description", "imageURL", "imageURLHighRes", "images",
))  # fmt: skip
_FLAGS = frozenset(("verified", "verified_purchase"))
_ONLY_AMAZON = frozenset(("imUrl", "imageURL", "imageURLHighRes", "images", "main_category"))
_NO_GENRE = "(no genres listed)"


def amazon_line(names: Sequence[str], values: Sequence[Any], kind: Kind) -> bytes:
    """The line of a dump that a row was exported from; empty cells are left out.

    Example:
        >>> amazon_line(("asin", "overall", "style", "rank"), ("B1", "5.0", "{'Size:': 'L'}", "3"), "reviews")
        b'{"asin":"B1","overall":5,"style":{"Size:":"L"}}'
    """
    known = AMAZON_FIELDS[kind]
    pairs = zip(names, values, strict=False)
    return _dumped({name: _value(name, value) for name, value in pairs if name in known and value not in (None, "")})


def _value(name: str, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if name in _NUMBERS:
        return _number(name, value)
    if name in _FLAGS:
        return {"true": True, "false": False, "1": True, "0": False}.get(value.strip().lower(), value)
    if name in {"categories", "category"}:
        return _categories(value, spaced=False)
    return nested(value) if name in _NESTED else value


def _number(name: str, text: str) -> Any:
    found = times.number(text)
    if found is None and name in _TIMES and (when := times.seconds_of_date(text)) is not None:
        return int(when * _TIMES[name])
    if found is None:
        return text
    return int(found) if found.is_integer() and abs(found) < 1 << 53 else found


def nested(text: str) -> Any:
    """The list or object that a cell holds as JSON or as a Python literal; the text itself if it holds none."""
    if not text.startswith(("[", "{")):
        return text
    for parse in (orjson.loads, python_literals.parse):
        try:
            return parse(text)
        except (ValueError, RecursionError):
            continue
    return text


def item_line(places: Mapping[str, int], values: Sequence[Any], *, spaced: bool = False) -> bytes:
    """A row of an item table as a metadata line of the 2014 dump.

    Args:
        places: Column of `table_columns.NAMES` to its place in the row.
        values: Cells of the row.
        spaced: Whether spaces separate the names of a list, as in RecBole's `.item`.

    Example:
        >>> item_line({"item": 0, "title": 1, "categories": 2}, ("7", "Heat (1995)", "Action|Crime"))
        b'{"asin":"7","title":"Heat (1995)","categories":["Action","Crime"]}'
    """
    found = {name: values[place] for name, place in places.items() if place < len(values)}
    renamed = {"item": "asin", "image_url": "imUrl"}
    line = {renamed.get(name, name): value for name, value in found.items() if value not in (None, "")}
    if "asin" in line and not isinstance(line["asin"], str):
        line["asin"] = str(line["asin"])
    if "categories" in line:
        line["categories"] = _categories(line["categories"], spaced=spaced)
    for name in ("description", "imUrl"):
        if isinstance(line.get(name), str):
            line[name] = nested(line[name])
    if isinstance(line.get("imUrl"), list):
        line["imUrl"] = next((value for value in line["imUrl"] if isinstance(value, str)), None)
    return _dumped(line)


def _categories(value: Any, *, spaced: bool) -> Any:
    """The names of a cell: a list as JSON or a Python literal, names in quotes, or names between bars.

    If `spaced`, names stand between commas, or between spaces where there is no comma.
    """
    if not isinstance(value, str):
        return value
    if value == _NO_GENRE:
        return []
    listed = nested(value)
    if listed is not value:
        return listed
    if re.fullmatch(r"(['\"]).*\1", value) and isinstance(quoted := nested(f"[{value}]"), list):
        return quoted
    if spaced and "|" not in value:
        return value.split("," if "," in value else None)
    return value.split("|")


def batch_lines(batch: pa.RecordBatch, kind: Kind, places: Mapping[str, int] | None) -> list[bytes]:
    """The rows of a Parquet batch as lines, by `item_line` if `places` are given, else by `amazon_line`."""
    names = batch.schema.names
    columns = [_python_values(batch.column(place), name) for place, name in enumerate(names)]
    rows = zip(*columns, strict=True)
    if places is not None:
        return [item_line(places, row) for row in rows]
    return [amazon_line(names, row, kind) for row in rows]


def _python_values(column: pa.Array, name: str) -> list[Any]:
    if pa.types.is_temporal(column.type):
        unit = _TIMES.get(name, 1)
        milliseconds = column.cast(pa.timestamp("ms", getattr(column.type, "tz", None)), safe=False)
        values = milliseconds.cast(pa.int64()).to_pylist()
        return [None if value is None else value * unit // 1000 for value in values]
    if pa.types.is_binary(column.type) or pa.types.is_large_binary(column.type):
        return [None] * len(column)
    return list(column.to_pylist())


def _dumped(record: Mapping[str, Any]) -> bytes:
    return orjson.dumps(record, default=str, option=orjson.OPT_NON_STR_KEYS)


def is_export(names: Sequence[str], kind: Kind, *, beside_tables: bool) -> bool:
    """Whether these are the column names of an exported dump: at least two of its fields, with the item's key.

    Beside a table of ratings, at least one must be a name that item tables of other origin do not use.
    """
    found = AMAZON_FIELDS[kind].intersection(names)
    if beside_tables and not found & _ONLY_AMAZON:
        return False
    return len(found) > 1 and bool(found & {"asin", "parent_asin"})
