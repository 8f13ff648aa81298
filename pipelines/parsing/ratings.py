"""Parses tables of user, item, rating and time: CSV, TSV or RecBole's `.inter`, as columns per block.

Reads a block of records. Returns one review row per record, or a reject with its reason.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features import schema
from features.runtime.datasets import Dataset
from pipelines.parsing import columnar_cleaning, delimited, times
from pipelines.parsing.amazon import Parsed, rejected
from pipelines.parsing.delimited import Dialect
from pipelines.parsing.lenient_values import shown
from pipelines.parsing.line_blocks import Block
from pipelines.parsing.table_columns import Layout

_TEXTS = ("user_name", "headline", "text")


def read_ratings(block: Block, source: str, dialect: Dialect, layout: Layout, dataset: Dataset) -> Parsed:
    """Parses a block of records into rows of `records/reviews` and `records/rejects`.

    The rating is null where the table has no such column. Without a column of times, the line is the position.
    """
    found, reasons = delimited.texts(block)
    if not layout.places:  # the file's beginning holds nothing, such as that of a damaged archive
        rejects = [(block.first_line + n, reasons.get(n, "not_parsable"), line) for n, line in enumerate(block.lines)]
        return Parsed(schema.REVIEWS.arrow.empty_table(), rejected(source, rejects), 0)
    rows = delimited.cells(["" if text is None else text for text in found], dialect)
    for place, row in enumerate(rows):
        if len(row) != layout.width and (not any(row) or any(row[layout.width :])):
            reasons.setdefault(place, "not_parsable")
    columns = _columns(rows, layout, dataset, dialect)
    sound = np.array([place not in reasons for place in range(len(rows))], dtype=bool)
    for name, missing, bad in (
        ("user_key", "missing_user", ""), ("item_key", "missing_item", ""), ("rating", "missing_rating", "bad_rating"),
        ("timestamp", "missing_time", "bad_time"),
    ):  # fmt: skip
        column = "time" if name == "timestamp" else name
        if columns[name].null_count and (column in layout.places or column not in ("rating", "time")):
            nulls = columns[name].is_null().to_numpy(zero_copy_only=False)
            empty = _empty(rows, layout, name) if bad else nulls
            for place in np.flatnonzero(nulls & sound).tolist():
                reasons[place] = missing if empty[place] else bad
            sound &= ~nulls
    faults = [
        (block.first_line + place, reason, _shown(block.lines[place], rows[place], reason, layout))
        for place, reason in sorted(reasons.items())
    ]
    reviews = _reviews(columns, sound, block.first_line, source, ordered="time" not in layout.places)
    return Parsed(reviews, rejected(source, faults), int(sound.sum()))


def _shown(line: bytes, row: Sequence[str], reason: str, layout: Layout) -> bytes | str:
    """The offending value of a bad rating or time; else the line."""
    name = reason.removeprefix("bad_")
    return shown(name, row[layout.places[name]]) if reason.startswith("bad_") else line


def _columns(rows: Sequence[Sequence[str]], layout: Layout, dataset: Dataset, dialect: Dialect) -> dict[str, pa.Array]:
    """Keys, rating, time and texts; null where a cell is empty or invalid.

    A rating may have a decimal comma where commas do not separate the cells.
    """
    count = len(rows)
    raw = {name: pa.array(_cells(rows, place), pa.string()) for name, place in layout.places.items()}
    least, most = dataset.rating_range
    nothing = pa.nulls(count, pa.string())
    columns = {
        "user_key": columnar_cleaning.keys(raw["user"]),
        "item_key": columnar_cleaning.keys(raw["item"]),
        "timestamp": times.seconds(raw["time"], dataset.time_unit) if "time" in raw else pa.nulls(count, pa.int64()),
        "rating": pa.nulls(count, pa.float32()),
    }
    if "rating" in raw:
        written = raw["rating"] if dialect.delimiter == "," else pc.replace_substring(raw["rating"], ",", ".")
        values = times.numbers(written).to_numpy(zero_copy_only=False).astype(np.float64)
        within = (values >= least) & (values <= most)
        columns["rating"] = pa.array(np.where(within, values, 0).astype(np.float32), mask=~within)
    return columns | {name: columnar_cleaning.texts(raw[name]) if name in raw else nothing for name in _TEXTS}


def _cells(rows: Sequence[Sequence[str]], place: int) -> list[str]:
    """One column; empty where a row is too short."""
    try:
        return [row[place] for row in rows]
    except IndexError:
        return [row[place] if place < len(row) else "" for row in rows]


def _empty(rows: Sequence[Sequence[str]], layout: Layout, name: str) -> np.ndarray:
    cells = _cells(rows, layout.places["time" if name == "timestamp" else name])
    return np.array([not cell.strip() for cell in cells], dtype=bool)


def _reviews(
    columns: Mapping[str, pa.Array], sound: np.ndarray, first_line: int, source: str, *, ordered: bool
) -> pa.Table:
    kept = np.flatnonzero(sound)
    if len(kept) < len(sound):
        columns = {name: pc.take(column, pa.array(kept)) for name, column in columns.items()}
    known = dict(columns) | {
        "source": pa.repeat(source, len(kept)),
        "line": pa.array(kept + first_line, pa.int64()),
        "position": pa.array((kept + first_line if ordered else np.zeros(len(kept))).astype(np.int32)),
    }
    arrays = [
        known[column.name] if column.name in known else pa.nulls(len(kept), column.type)
        for column in schema.REVIEWS.columns
    ]
    return pa.Table.from_arrays(arrays, schema=schema.REVIEWS.arrow)
