"""The p5 folder format: one line a user, "user item item ...", in published numbers.

Enters: a block of such lines and `datamaps.json`. Leaves: one review row an interaction; rating and time are null.
Trade-off: a line with one unknown number is rejected whole, because a sequence with a hole is another sequence.
"""

import functools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from features import schema
from features.errors import InputError
from pipelines.dump_lines import Block
from pipelines.readers import Parsed, numbered, rejected


@dataclass(frozen=True)
class NumberMaps:
    """Published number to the dump's own key, for users and items."""

    users: Mapping[str, str]
    items: Mapping[str, str]


@functools.lru_cache(maxsize=1)
def number_maps(path: Path) -> NumberMaps:
    """The maps of `datamaps.json`.

    Raises:
        InputError: the file is not JSON or lacks `id2user` or `id2item`.
    """
    expected = 'a JSON object with "id2user" and "id2item", numbers to keys'
    try:
        loaded: Any = json.loads(path.read_bytes())
    except ValueError as error:
        raise InputError(f"{path} that is not JSON ({error})", expected, "bring the file in again") from error
    maps: list[Any] = [loaded.get(name) if isinstance(loaded, dict) else None for name in ("id2user", "id2item")]
    for mapping in maps:
        if not isinstance(mapping, dict) or not all(isinstance(key, str) and key for key in mapping.values()):
            raise InputError(f"{path} without number maps", expected, "bring the file in again")
    return NumberMaps(*maps)


def read_sequences(block: Block, source: str, maps: NumberMaps) -> Parsed:
    """The rows of `records/reviews` and `records/rejects` that a block of sequence lines gives.

    Example:
        A line "1 10 20" of user U1 and items A and B gives the rows (U1, A, position 1) and (U1, B, position 2).
    """
    users: list[str] = []
    items: list[str] = []
    lines: list[int] = []
    positions: list[int] = []
    rejects: list[tuple[int, str, bytes]] = []
    for number, line, reason in numbered(block):
        found = reason or _sequence(line, maps)
        if isinstance(found, str):
            rejects.append((number, found, line))
            continue
        user, sequence = found
        users += [user] * len(sequence)
        items += sequence
        lines += [number] * len(sequence)
        positions += range(1, len(sequence) + 1)
    return Parsed(_reviews(users, items, lines, positions, source), rejected(source, rejects), len(set(lines)))


def _sequence(line: bytes, maps: NumberMaps) -> tuple[str, list[str]] | str:
    try:
        numbers = line.decode("ascii").split()
    except UnicodeDecodeError:
        return "bad_sequence"
    if len(numbers) < 2 or not all(number.isdigit() for number in numbers):
        return "bad_sequence"
    user = maps.users.get(numbers[0])
    items = [maps.items.get(number) for number in numbers[1:]]
    if user is None or None in items:
        return "unknown_number"
    return user, [item for item in items if item is not None]


def _reviews(users: list[str], items: list[str], lines: list[int], positions: list[int], source: str) -> pa.Table:
    known = {
        "user_key": users, "item_key": items, "source": [source] * len(users), "line": lines, "position": positions,
    }  # fmt: skip
    arrays = [
        pa.array(known[column.name], type=column.type) if column.name in known else pa.nulls(len(users), column.type)
        for column in schema.REVIEWS.columns
    ]
    return pa.Table.from_arrays(arrays, schema=schema.REVIEWS.arrow)
