"""Filler texts of a staged table: one text in nearly every row of a column, and texts that a parameter lists.

Reads the parts that units of work wrote. Replaces fillers with null and returns how many, so that a placeholder of a
scraped page is neither a title nor a text.
Trade-off: the commonest text is sought in a sample of rows of up to 16 parts, and only a text that fills the sample is
counted in the whole column; the counting of all texts of a large dump would take most of its memory.
"""

import logging
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from features import schema
from features.store import tables

log = logging.getLogger("vip5")
Counts = dict[str, dict[str, int]]
Pattern = tuple[str, str]
"""A filler and the regular expression of its texts."""
FILLED = {"reviews": ("headline", "text"), "items": ("title",)}
"""Columns whose texts differ from row to row."""
LISTED = {"reviews": ("headline", "text"), "items": ("title", "brand")}
"""Columns without the texts that the parameter lists."""
_TABLES = {"reviews": schema.REVIEWS, "items": schema.ITEMS}
_FEWEST_ROWS = 20
_SAMPLED_PARTS, _SAMPLED_ROWS = 16, 1_000


def drop_fillers(staging: Mapping[str, Path], listed: Sequence[str], max_share: float) -> Counts:
    """Replaces fillers in the staged parts of `reviews` and `items` with null, and logs each with its number of rows.

    Args:
        staging: Folder of parts by table.
        listed: Texts, compared without case; with "*" at the end, beginnings of texts.
        max_share: Largest share of the rows with a text that one text may have.

    Returns:
        Rows without their text, by column and by filler or entry of `listed`.

    Example:
        126 of 132 titles "See all details", share 0.8 -> {"title": {"See all details": 126}}
    """
    dropped: Counts = {}
    for name, table in _TABLES.items():
        parts = sorted(staging[name].glob("part-*.parquet"))
        patterns = {column: [_pattern(text) for text in listed] for column in LISTED[name]}
        for column in FILLED[name]:
            if (text := _filler(parts, column, max_share)) is not None:
                patterns[column].append((text, f"^{re.escape(text)}$"))
        dropped |= _drop(parts, table, {column: found for column, found in patterns.items() if found})
    for column, counts in dropped.items():
        for text, count in counts.items():
            log.warning("records: %s rows lose their %s, the filler %r", f"{count:,}", column, text[:80])
    return dropped


def _pattern(text: str) -> Pattern:
    """An entry of the list and its regular expression."""
    return text, f"(?i)^{re.escape(text.removesuffix('*'))}" + ("" if text.endswith("*") else "$")


def _filler(parts: list[Path], column: str, max_share: float) -> str | None:
    """The text of more than `max_share` of the rows that have one; None if there is none."""
    if not parts:
        return None
    step = -(-len(parts) // _SAMPLED_PARTS)
    sample = Counter(text for part in parts[::step] for text in _beginning(part, column))
    if not sample:
        return None
    text, count = min(sample.items(), key=lambda entry: (-entry[1], entry[0]))
    if count <= max_share * sample.total() / 2:
        return None
    whole = pl.scan_parquet(parts).select(pl.col(column).count().alias("all"), same=(pl.col(column) == text).sum())
    total, same = whole.collect(engine="streaming").row(0)
    return text if total >= _FEWEST_ROWS and same > max_share * total else None


def _beginning(part: Path, column: str) -> list[str]:
    batches: Iterator[pa.RecordBatch] = pq.ParquetFile(part).iter_batches(_SAMPLED_ROWS, columns=[column])
    first = next(batches, None)
    return [] if first is None else first.column(0).drop_null().to_pylist()


def _drop(parts: list[Path], table: schema.Table, patterns: Mapping[str, Sequence[Pattern]]) -> Counts:
    """Rewrites the parts that hold fillers; returns the counts."""
    dropped: dict[str, Counter[str]] = {column: Counter() for column in patterns}
    for part in parts if patterns else ():
        texts = pl.read_parquet(part, columns=list(patterns))
        gone = {}
        for column, entries in patterns.items():
            left = texts[column]
            for name, pattern in entries:
                mask = left.str.contains(pattern)
                dropped[column][name] += int(mask.sum())
                left = left.set(mask.fill_null(value=False), None)
            if left.null_count() > texts[column].null_count():
                gone[column] = left
        if gone:
            whole = pq.read_table(part)
            for column, left in gone.items():
                place = whole.schema.get_field_index(column)
                whole = whole.set_column(place, whole.schema.field(place), left.to_arrow().cast(pa.string()))
            tables.write_part(part.parent, table, int(part.stem.removeprefix("part-")), whole)
    counts = {column: {name: n for name, n in found.items() if n} for column, found in dropped.items()}
    return {column: found for column, found in counts.items() if found}
