"""Finds the columns of a table: by the names of its header, by the entry's `columns`, or by the official order.

Reads the first records of a file. Returns the place of each column that `records` uses.
Trade-off: a file without a header is recognised by numbers in its first record; a table whose columns have neither
known names nor an entry in `columns` is refused, because a guess would give plausible rows of wrong columns.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from features.errors import InputError
from pipelines.recognition import column_names
from pipelines.recognition.column_names import plain

Kind = Literal["reviews", "items"]
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?|\d{4}-\d\d-\d\d.*")
_AMAZON_ITEM = re.compile(r"(?:B[0-9A-Z]{9}|\d{9}[0-9X])")
_AMAZON_USER = re.compile(r"A[0-9A-Z]{9,}")
NAMES: Mapping[Kind, Mapping[str, tuple[str, ...]]] = {"reviews": column_names.REVIEWS, "items": column_names.ITEMS}
REQUIRED: Mapping[Kind, tuple[str, ...]] = {"reviews": ("user", "item"), "items": ("item",)}
OFFICIAL = ("user", "item", "rating", "time")


@dataclass(frozen=True)
class Layout:
    """Whether a table has a header, its number of columns, and the place of each used column from 0."""

    header: bool
    width: int
    places: Mapping[str, int]


def layout(rows: Sequence[Sequence[str]], kind: Kind, columns: Mapping[str, str | int], source: str) -> Layout:
    """The layout of a table.

    Args:
        rows: The first records of the file, a header included.
        kind: What the table holds.
        columns: `datasets.NAME.columns`; columns of the other kind are ignored.
        source: Name of the file.

    Raises:
        InputError: A required column is not found.
    """
    first = rows[0] if rows else []
    wanted = {name: str(value) for name, value in columns.items() if name in NAMES[kind]}
    header = _is_header(first, kind, wanted)
    if header or not rows:
        places = _by_name(first, kind)
    elif kind == "reviews" and not wanted:
        places = _official(rows)
    else:
        places = {}
    for name, value in wanted.items():
        if kind == "items" and name == "item" and name in places and value not in first:
            continue  # it names the column of the ratings
        places[name] = _place(value, first, header=header, source=source, name=name)
    lacking = [name for name in REQUIRED[kind] if name not in places]
    if lacking and rows:
        raise InputError(
            f"{source} without a column of {' and '.join(lacking)} in {_shown(first)}",
            "a header with known names, such as user_id, item_id, rating, timestamp" if kind == "reviews"
            else "a header with known names, such as item_id, title, categories",
            f"set datasets.NAME.columns, such as {{{', '.join(f'{name}: NAME_OR_PLACE' for name in lacking)}}}",
        )  # fmt: skip
    return Layout(header, len(first), places)


def _is_header(first: Sequence[str], kind: Kind, wanted: Mapping[str, str]) -> bool:
    cells = {cell.strip() for cell in first}
    if cells & set(wanted.values()) and not all(value.isdecimal() for value in wanted.values()):
        return True
    if any(plain(cell) in NAMES[kind][name] for cell in first for name in ("item", "user") if name in NAMES[kind]):
        return True
    numbers = any(_NUMBER.fullmatch(cell) for cell in cells)
    return bool(cells - {""}) and not numbers and not (wanted and all(map(str.isdecimal, wanted.values())))


def _by_name(header: Sequence[str], kind: Kind) -> dict[str, int]:
    """The place of each column with a known name; of several the one whose name stands first in `NAMES`."""
    names = [plain(cell) for cell in header]
    return {
        column: names.index(known[0])
        for column, all_known in NAMES[kind].items()
        if (known := [name for name in all_known if name in names])
    }


def _official(rows: Sequence[Sequence[str]]) -> dict[str, int]:
    """User, item, rating, time; item first where most rows begin with an Amazon item and then have an Amazon user."""
    swapped = sum(
        len(row) > 1 and bool(_AMAZON_ITEM.fullmatch(row[0].strip())) and bool(_AMAZON_USER.fullmatch(row[1].strip()))
        for row in rows
    )
    order: tuple[str, ...] = ("item", "user", "rating", "time") if 2 * swapped > len(rows) else OFFICIAL
    width = len(rows[0])
    if width == 3:  # no ratings
        order = tuple(name for name in order if name != "rating")
    return {name: place for place, name in enumerate(order) if place < width}


def _place(value: str, first: Sequence[str], *, header: bool, source: str, name: str) -> int:
    names = [cell.strip() for cell in first]
    if header and value in names:
        return names.index(value)
    if value.isdecimal() and 1 <= int(value) <= max(len(first), 1):
        return int(value) - 1
    raise InputError(
        f"datasets.NAME.columns.{name} = {value}, which {source} lacks: it has {_shown(first)}",
        "the name of a column in the file's first line, or its place from 1",
        f"correct columns.{name}",
    )


def _shown(first: Sequence[str]) -> str:
    return f"its first line ({', '.join(cell[:30] for cell in first[:12])})"
