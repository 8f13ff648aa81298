"""Staged parts of `records`: the parts that units of work wrote, before they become finished tables.

Moves all lines of an item but the first to the rejects, and numbers the parts consecutively.
Trade-off: the first line of an item is known only after all lines are parsed, so parts with a duplicate item are
written twice. The keys of a catalogue of more than two million lines are read in several passes, one share each.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from features import schema
from features.store import tables

_KEYS_AT_ONCE = 2_000_000  # about 300 MB


def count_rows(staging: Path) -> int:
    """Number of rows of all parts in `staging`."""
    return sum(pq.read_metadata(path).num_rows for path in _parts(staging))


def reject_duplicate_items(items: Path, rejects: Path) -> dict[str, int]:
    """Moves all lines of an item but the first to the rejects; returns their number per file.

    The first line is determined by file name, then line number. Keys are processed `_KEYS_AT_ONCE` at a time, by hash.
    """
    files = _parts(items)
    num_rounds = -(-count_rows(items) // _KEYS_AT_ONCE)
    counted: Counter[str] = Counter()
    for turn in range(num_rounds):
        repeated = _repeated(files, (pl.col("item_key").hash() % num_rounds) == turn)
        for (number,), rows in repeated.sort("part", "line").group_by("part", maintain_order=True):
            _move(files[int(str(number))], rows, rejects)
        counted.update(dict(repeated.group_by("source").len().iter_rows()))
    return dict(sorted(counted.items()))


def _repeated(files: Sequence[Path], chosen: pl.Expr) -> pl.DataFrame:
    """All lines of the chosen keys but the first of each key, with their part and that first line."""
    keys = pl.concat([
        pl.read_parquet(path, columns=["item_key", "source", "line"])
        .filter(chosen)
        .with_columns(part=pl.lit(number, pl.Int32))
        for number, path in enumerate(files)
    ])  # fmt: skip
    first = pl.struct("source", "line").first().over("item_key", order_by=["source", "line"])
    return keys.with_columns(first=first).filter(
        (pl.col("source") != pl.col("first").struct.field("source"))
        | (pl.col("line") != pl.col("first").struct.field("line"))
    )


def _move(part: Path, rows: pl.DataFrame, rejects: Path) -> None:
    """Moves `rows` from an item part to the rejects of the same block."""
    index = _index(part)
    whole = pq.read_table(part)
    gone = set(rows["line"].to_list())
    keep = pa.array([line not in gone for line in whole.column("line").to_pylist()])
    tables.write_part(part.parent, schema.ITEMS, index, whole.filter(keep))
    moved = tables.from_rows(schema.REJECTS, [
        {
            "source": row["source"], "line": row["line"], "reason": "duplicate_item",
            "excerpt": f"{row['item_key']}, first in line {row['first']['line']} of {row['first']['source']}"[:200],
        }
        for row in rows.iter_rows(named=True)
    ])  # fmt: skip
    old = rejects / f"part-{index:05d}.parquet"
    both = pa.concat_tables([pq.read_table(old).cast(schema.REJECTS.arrow), moved]) if old.exists() else moved
    tables.write_part(rejects, schema.REJECTS, index, both.sort_by("line"))


def renumber(staging: Path, table: schema.Table) -> None:
    """Renumbers the parts consecutively in block order; a table without rows gets one empty part."""
    filled = []
    for part in _parts(staging):
        if pq.read_metadata(part).num_rows:
            filled.append(part)
        else:
            part.unlink()
    for number, part in enumerate(filled):
        part.rename(staging / f"part-{number:05d}.parquet")
    if not filled:
        tables.write_part(staging, table, 0, table.arrow.empty_table())


def _index(part: Path) -> int:
    return int(part.stem.removeprefix("part-"))


def _parts(staging: Path) -> list[Path]:
    return sorted(staging.glob("part-*.parquet"), key=_index)
