"""Fast path for well-formed review lines: typed decoding, then columns per block.

Reads a block of lines. Returns the columns of the lines that match the format, and the positions of all others.
Trade-off: a line with another type, a missing key, a value out of range or invalid UTF-8 is left to `amazon`, which
takes values whose meaning is plain and names faults, at a tenth of the speed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipelines.parsing import cleaning, columnar_cleaning
from pipelines.parsing.lenient_values import Reading

_BATCH = 1024  # lines per batch, so that their records and texts stay in the CPU cache


class Review2014(msgspec.Struct, gc=False):
    """A review of the 2014 and 2018 dumps."""

    reviewerID: str  # noqa: N815 - the dump's name
    asin: str
    overall: float
    unixReviewTime: int  # noqa: N815
    reviewerName: str | None = None  # noqa: N815
    summary: str | None = None
    reviewText: str | None = None  # noqa: N815
    helpful: list[int] | None = None
    vote: int | str | None = None
    verified: bool | None = None
    style: dict[str, str | None] | None = None


class Review2023(msgspec.Struct, gc=False):
    """A review of the 2023 dumps."""

    user_id: str
    parent_asin: str
    rating: float
    timestamp: int
    title: str | None = None
    text: str | None = None
    helpful_vote: int | None = None
    verified_purchase: bool | None = None
    asin: str | None = None


@dataclass(frozen=True)
class Quick:
    """A review format: the decoder of a line, its attributes, and the number of time units per second.

    `votes` and `variants` take the records and return one value per record.
    """

    decode: Callable[[bytes], Any]
    keys: tuple[str, str, str, str]
    texts: tuple[str | None, str, str]
    votes: Callable[[list[Any]], list[int | str | None]]
    verified: str
    variants: Callable[[list[Any]], list[str | None]]
    unit: int


QUICK_2014 = Quick(
    decode=msgspec.json.Decoder(Review2014).decode,
    keys=("reviewerID", "asin", "overall", "unixReviewTime"),
    texts=("reviewerName", "summary", "reviewText"),
    votes=lambda records: [one.helpful[0] if one.helpful else one.vote for one in records],
    verified="verified",
    variants=lambda records: [cleaning.choices(one.style) if one.style else None for one in records],
    unit=1,
)
QUICK_2023 = Quick(
    decode=msgspec.json.Decoder(Review2023).decode,
    keys=("user_id", "parent_asin", "rating", "timestamp"),
    texts=(None, "title", "text"),
    votes=lambda records: [one.helpful_vote for one in records],
    verified="verified_purchase",
    variants=lambda records: [cleaning.key(one.asin) if one.asin != one.parent_asin else None for one in records],
    unit=1000,
)


def read(lines: Sequence[bytes], quick: Quick, reading: Reading) -> tuple[dict[str, pa.Array], np.ndarray, np.ndarray]:
    """Returns (columns of the parsed rows, indices of their lines, indices of all other lines)."""
    batches = [_columns([], quick, reading)]
    left: list[int] = []
    for start in range(0, len(lines), _BATCH):
        records, unread = _decoded(lines[start : start + _BATCH], quick.decode)
        left += [start + place for place in unread]
        batches.append(_columns(records, quick, reading))
    columns = {name: pa.concat_arrays([batch[name] for batch in batches]) for name in batches[0]}
    parsed = np.delete(np.arange(len(lines)), left)
    sound = np.ones(len(parsed), dtype=bool)
    for name in ("user_key", "item_key", "rating", "timestamp"):
        if columns[name].null_count:
            sound &= columns[name].is_valid().to_numpy(zero_copy_only=False)
    if not sound.all():
        columns = {name: column.filter(pa.array(sound)) for name, column in columns.items()}
        left += parsed[~sound].tolist()
    return columns, parsed[sound], np.array(sorted(left), dtype=np.int64)


def _decoded(lines: Sequence[bytes], decode: Callable[[bytes], Any]) -> tuple[list[Any], list[int]]:
    """Returns (the records, the indices of lines that cannot be decoded)."""
    if all(map(bytes.isascii, lines)):  # else skipped fields must be checked for valid UTF-8
        try:
            return list(map(decode, lines)), []
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            pass  # at least one line is invalid: find it below
    records, unread = [], []
    for place, line in enumerate(lines):
        try:
            line.decode()
            records.append(decode(line))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            unread.append(place)
    return records, unread


def _columns(records: list[Any], quick: Quick, reading: Reading) -> dict[str, pa.Array]:
    """The columns, cleaned by the rules of `cleaning`; null marks an invalid key, rating or time."""
    user, item, rating, time = (list(map(attrgetter(name), records)) for name in quick.keys)
    texts = ([None] * len(records) if name is None else map(attrgetter(name), records) for name in quick.texts)
    together = columnar_cleaning.keys(pa.array(chain(user, item, *map(columnar_cleaning.unmarked, texts)), pa.string()))
    names = ("user_key", "item_key", "user_name", "headline", "text")
    size = len(records)
    return {name: together.slice(place * size, size) for place, name in enumerate(names)} | {
        "rating": _within(np.array(rating, dtype=np.float64), reading.rating_range),
        "timestamp": _times(time, quick.unit, reading),
        "helpful_votes": _votes(quick.votes(records)),
        "verified": pa.array(list(map(attrgetter(quick.verified), records)), pa.bool_()),
        "variant": pa.array(quick.variants(records), pa.string()),
    }


def _votes(values: list[int | str | None]) -> pa.Array:
    try:
        counts = pa.array(values, pa.int32())
        negative = counts.null_count < len(counts) and pc.min(counts).as_py() < 0
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        negative = True
    return pa.array([cleaning.count(value) for value in values], pa.int32()) if negative else counts


def _times(values: list[int], unit: int, reading: Reading) -> pa.Array:
    """Unix seconds; null outside the range of `cleaning.seconds`, and where another unit is plainly meant."""
    unit = reading.unit(unit)
    try:
        whole = np.array(values, dtype=np.int64)
    except OverflowError:
        whole = np.array([value if 0 <= value < 2**63 else -1 for value in values], dtype=np.int64)
    least = cleaning.LATEST_SECONDS if unit == 1000 and reading.time_unit == "auto" else 0
    within = (whole >= least) & (whole < cleaning.LATEST_SECONDS * unit)
    return pa.array(np.where(within, whole // unit, 0), mask=~within)


def _within(values: np.ndarray, limits: tuple[float, ...]) -> pa.Array:
    within = (values >= limits[0]) & (values <= limits[1])
    return pa.array(np.where(within, values, 0).astype(np.float32), mask=~within)
