"""Parses sequences without number maps: one line per user, "user item item ...", as S3-Rec and OpenP5 publish them.

Reads a block of lines. Returns one review row per interaction, or one item row per line of OpenP5's item texts.
Ratings and timestamps are null: the order within a line is the order. A key is the word of the line itself.
"""

from typing import Any

import pyarrow as pa

from features import schema
from pipelines.parsing import cleaning
from pipelines.parsing.amazon import Parsed, numbered, rejected
from pipelines.parsing.line_blocks import Block

_OTHER_FORMATS = ("{", "[", "<")


def read_sequences(block: Block, source: str, *, numeric: bool) -> Parsed:
    """Parses a block of sequence lines into rows of `records/reviews` and `records/rejects`.

    Args:
        block: Lines of the file.
        source: Name of the file.
        numeric: Whether all words must be numbers, as in the format `sequences`.

    Example:
        A line "7 10 20" of user 7 gives the rows (7, 10, position 1) and (7, 20, position 2).
    """
    columns: dict[str, list[Any]] = {name: [] for name in ("user_key", "item_key", "line", "position")}
    rejects: list[tuple[int, str, bytes]] = []
    for number, line, reason in numbered(block):
        words = reason or _words(line, numeric=numeric)
        if isinstance(words, str):
            rejects.append((number, words, line))
            continue
        user, *items = words
        columns["user_key"] += [user] * len(items)
        columns["item_key"] += items
        columns["line"] += [number] * len(items)
        columns["position"] += range(1, len(items) + 1)
    return Parsed(_arrow(schema.REVIEWS, columns, source), rejected(source, rejects), len(block.lines) - len(rejects))


def _words(line: bytes, *, numeric: bool) -> list[str] | str:
    """The keys of a line, or a reject reason."""
    try:
        words = line.decode().split()
    except UnicodeDecodeError:
        return "not_utf8"
    if len(words) < 2 or words[0].startswith(_OTHER_FORMATS):
        return "bad_sequence"
    if numeric and not all(word.isascii() and word.isdecimal() for word in words):
        return "bad_sequence"
    keys = [cleaning.key(word) for word in words]
    return "bad_sequence" if None in keys else [key for key in keys if key is not None]


def read_item_texts(block: Block, source: str) -> Parsed:
    """Parses lines of an item's key and its text into rows of `records/items`, the text as the title."""
    columns: dict[str, list[Any]] = {name: [] for name in ("item_key", "title", "categories", "line")}
    rejects: list[tuple[int, str, bytes]] = []
    for number, line, reason in numbered(block):
        named = reason or _named(line)
        if isinstance(named, str):
            rejects.append((number, named, line))
            continue
        columns["item_key"].append(named[0])
        columns["title"].append(named[1])
        columns["categories"].append([])
        columns["line"].append(number)
    return Parsed(_arrow(schema.ITEMS, columns, source), rejected(source, rejects), len(columns["line"]))


def _named(line: bytes) -> tuple[str, str | None] | str:
    """The key and the title of a line, or a reject reason."""
    try:
        key, _, text = line.decode().lstrip().partition(" ") if b"\t" not in line else line.decode().partition("\t")
    except UnicodeDecodeError:
        return "not_utf8"
    found = cleaning.key(key)
    if found is None:
        return "missing_item"
    return "not_parsable" if found.startswith(_OTHER_FORMATS) else (found, cleaning.title(text))


def _arrow(table: schema.Table, columns: dict[str, list[Any]], source: str) -> pa.Table:
    num_rows = len(columns["line"])
    known = columns | {"source": [source] * num_rows}
    arrays = [
        pa.array(known[column.name], type=column.type) if column.name in known else pa.nulls(num_rows, column.type)
        for column in table.columns
    ]
    return pa.Table.from_arrays(arrays, schema=table.arrow)
