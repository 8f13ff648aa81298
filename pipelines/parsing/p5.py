"""Parses the p5 folder format: one line per user, "user item item ...", in published numbers.

Reads a block of such lines, `datamaps.json` and the bundle's optional pickles. Returns one review row per interaction.
Timestamps are null: the order within a line is the order. User names come from `user_id2name.pkl`. Rating, headline,
text, helpful votes, feature word and explanation come from the record of the same user and item in `exp_splits.pkl`,
or are null. That file's own train, val and test split is ignored.
A line with one unknown number is rejected, because a sequence with a gap is a different sequence.
"""

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from features import schema
from features.errors import InputError
from features.runtime.datasets import P5_PICKLES
from pipelines.parsing import amazon, amazon_rows, cleaning, safe_pickle
from pipelines.parsing.amazon import Parsed, numbered, rejected
from pipelines.parsing.lenient_values import Fault, Reading
from pipelines.parsing.line_blocks import Block

_PUBLISHED = ("rating", "headline", "text", "helpful_votes", "feature", "explanation")
_NOTHING = (None,) * len(_PUBLISHED)


_SURROGATE = re.compile("[\ud800-\udfff]")


@dataclass(frozen=True)
class NumberMaps:
    """Published number to the dump's key, for users and items."""

    users: Mapping[str, str]
    items: Mapping[str, str]


@dataclass(frozen=True)
class Bundle:
    """Data of a p5 folder other than the sequences.

    `names` maps user numbers to names; `reviews` maps (user key, item key) to the values of `_PUBLISHED`
    and the time.
    """

    maps: NumberMaps
    names: Mapping[str, str | None]
    reviews: Mapping[tuple[str, str], tuple[Any, ...]]


@functools.lru_cache(maxsize=1)
def bundle(maps: Path, pickles: tuple[Path, ...] = ()) -> Bundle:
    """Loads the number maps and the pickles.

    Raises:
        InputError: A file is not in the format that its name implies.
    """
    by_name = {path.name: path for path in pickles}
    names, explained = (by_name.get(name) for name in P5_PICKLES)
    return Bundle(number_maps(maps), user_names(names) if names else {}, published(explained) if explained else {})


def user_names(path: Path) -> dict[str, str | None]:
    """User number to cleaned name, from `user_id2name.pkl`.

    Raises:
        InputError: it is not a dictionary of texts.
    """
    loaded = safe_pickle.read(path)
    if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded.values()):
        raise InputError(
            f"{path} without names", "a pickled dictionary, user number to name", safe_pickle.without(path)
        )
    return {str(number): cleaning.text(name) for number, name in loaded.items()}


def published(path: Path) -> dict[tuple[str, str], tuple[Any, ...]]:
    """(user key, item key) to the values of `_PUBLISHED` and the time, of the first record in `exp_splits.pkl`.

    Raises:
        InputError: The file is not a dictionary of lists of review records.
    """
    loaded = safe_pickle.read(path)
    lists = list(loaded.values()) if isinstance(loaded, dict) else [None]
    if not all(isinstance(records, list) and all(isinstance(one, dict) for one in records) for records in lists):
        expected = "a pickled dictionary, train, val and test to lists of reviews"
        raise InputError(f"{path} without review records", expected, safe_pickle.without(path))
    reviews: dict[tuple[str, str], tuple[Any, ...]] = {}
    for record in (record for records in lists for record in records or ()):
        row = amazon_rows.review_2014(record, Reading())
        if isinstance(row, Fault):
            shown = str({key: record.get(key) for key in ("reviewerID", "asin", "overall", "unixReviewTime")})
            found = f"{path} with an invalid review record ({row.reason}): {shown[:200]}"
            raise InputError(found, "valid reviews", safe_pickle.without(path))
        values = dict(zip(amazon_rows.REVIEW_FIELDS, row, strict=True))
        values |= {name: cleaning.text(record.get(name)) for name in ("feature", "explanation")}
        known = tuple(values[name] for name in (*_PUBLISHED, "timestamp"))
        reviews.setdefault((values["user_key"], values["item_key"]), known)
    return reviews


@functools.lru_cache(maxsize=1)
def number_maps(path: Path) -> NumberMaps:
    """The maps of `datamaps.json`.

    Raises:
        InputError: the file is not JSON or lacks `id2user` or `id2item`.
    """
    expected = 'a JSON object with "id2user" and "id2item", numbers to keys'
    try:
        loaded: Any = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} that is not JSON ({error})", expected, "ingest the file again") from error
    maps: list[Any] = [loaded.get(name) if isinstance(loaded, dict) else None for name in ("id2user", "id2item")]
    for mapping in maps:
        if not isinstance(mapping, dict) or not all(isinstance(key, str) and key for key in mapping.values()):
            raise InputError(f"{path} without number maps", expected, "ingest the file again")
    return NumberMaps(*(_encodable(mapping) for mapping in maps))


def _encodable(mapping: dict[str, str]) -> dict[str, str]:
    """The numbers whose keys a table can hold; lines with others are rejected as `unknown_number`."""
    try:
        "".join(mapping.values()).encode()
    except UnicodeEncodeError:  # a lone surrogate
        return {number: key for number, key in mapping.items() if not _SURROGATE.search(key)}
    return mapping


def read_sequences(block: Block, source: str, known: Bundle) -> Parsed:
    """Parses a block of sequence lines into rows of `records/reviews` and `records/rejects`.

    Example:
        A line "1 10 20" of user U1 and items A and B gives the rows (U1, A, position 1) and (U1, B, position 2).
    """
    columns: dict[str, list[Any]] = {name: [] for name in ("user_key", "item_key", "user_name", "line", "position")}
    rejects: list[amazon.Reject] = []
    for number, line, reason in numbered(block):
        parsed = reason or _sequence(line, known.maps)
        if isinstance(parsed, str):
            rejects.append((number, parsed, line))
            continue
        user, sequence = parsed
        length = len(sequence)
        columns["user_key"] += [known.maps.users[user]] * length
        columns["item_key"] += sequence
        columns["user_name"] += [known.names.get(user)] * length
        columns["line"] += [number] * length
        columns["position"] += range(1, length + 1)
    num_kept = len(block.lines) - len(rejects)
    return Parsed(_reviews(columns, source, known.reviews), rejected(source, rejects), num_kept)


def _sequence(line: bytes, maps: NumberMaps) -> tuple[str, list[str]] | str:
    """The user's number and the item keys, or a reject reason."""
    try:
        numbers = line.decode("ascii").split()
    except UnicodeDecodeError:
        return "bad_sequence"
    if len(numbers) < 2 or not all(number.isdigit() for number in numbers):
        return "bad_sequence"
    items = [maps.items.get(number) for number in numbers[1:]]
    if numbers[0] not in maps.users or None in items:
        return "unknown_number"
    return numbers[0], [item for item in items if item is not None]


def _reviews(
    columns: Mapping[str, list[Any]], source: str, reviews: Mapping[tuple[str, str], tuple[Any, ...]]
) -> pa.Table:
    num_rows = len(columns["line"])
    known = dict(columns) | {"source": [source] * num_rows}
    if reviews:
        pairs = zip(columns["user_key"], columns["item_key"], strict=True)
        records = [reviews.get(pair, _NOTHING) for pair in pairs]
        known |= {name: [values[place] for values in records] for place, name in enumerate(_PUBLISHED)}
    arrays = [
        pa.array(known[column.name], type=column.type) if column.name in known else pa.nulls(num_rows, column.type)
        for column in schema.REVIEWS.columns
    ]
    return pa.Table.from_arrays(arrays, schema=schema.REVIEWS.arrow)
