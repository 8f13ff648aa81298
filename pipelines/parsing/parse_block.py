"""Units of work of `records`: the blocks of one file that belong to one reader, planned and parsed.

Reads a `Unit`. Writes one part per block into the staging folders and returns line counts.
Trade-off: units write their parts themselves; passing rows through Beam would cost 20 times as much as parsing them.
"""

import functools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa

from features import schema
from features.errors import VIP5Error
from features.runtime.datasets import Dataset
from features.store import tables
from pipelines.parsing import amazon, p5, readers
from pipelines.parsing.config import Params
from pipelines.parsing.line_blocks import Block
from pipelines.parsing.table_columns import Kind

BLOCKS_PER_FILE = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Blocks `reader`, `reader + params.readers_per_file`, ... of one file.

    `source` is the file's name in the dump, `place` its index among all files sorted by name; `maps` is p5's
    `datamaps.json`, `pickles` are the optional files of a p5 folder.
    """

    params: Params
    dataset: Dataset
    kind: Kind
    source: str
    path: Path
    maps: Path | None
    pickles: tuple[Path, ...]
    place: int
    reader: int
    staging: Path
    staging_rejects: Path


def plan_units(params: Params, dataset: Dataset, paths: Mapping[str, Path], staging: Mapping[str, Path]) -> list[Unit]:
    """The units of work of a dump: one for each file and reader.

    Args:
        params: Parameters of the stage.
        dataset: The dump's format and files.
        paths: Absolute path of each file.
        staging: Absolute staging folders of `reviews`, `items` and `rejects`.
    """
    is_p5 = dataset.format == "p5"
    places = sorted(dataset.files)
    kinds: list[tuple[Kind, tuple[str, ...]]] = [
        ("reviews", dataset.reviews[:1] if is_p5 else dataset.reviews),
        ("items", dataset.metadata),
    ]
    return [
        Unit(
            params=params, kind=kind, dataset=dataset, source=name, path=paths[name],
            place=places.index(name), reader=reader,
            maps=paths[dataset.reviews[1]] if is_p5 and kind == "reviews" else None,
            pickles=tuple(paths[name] for name in dataset.reviews[2:]) if is_p5 and kind == "reviews" else (),
            staging=staging[kind], staging_rejects=staging["rejects"],
        )
        for kind, names in kinds
        for name in names
        for reader in range(params.readers_per_file)
    ]  # fmt: skip


def work(unit: Unit) -> dict[str, int]:
    """Parses a unit and writes its parts; idempotent.

    Returns:
        Counts named `<file>:seen` (lines of the whole file), `:lines` (of this reader), `:kept`, `:rejected`,
        `:rows`, `:rejected:<reason>` and `:taken:<leniency>`.

    Raises:
        InputError: The file exceeds the maximum decompression ratio.
        TableError: The disk is full or read-only.
    """
    counts: Counter[str] = Counter()
    file = reader_of(unit)
    for block in file.blocks:
        counts["seen"] += len(block.lines)
        if is_own(unit, block.number):
            parsed = parse(file, block, unit)
            counts["lines"] += len(block.lines)
            counts["kept"] += parsed.kept_lines
            counts["rejected"] += parsed.rejects.num_rows
            counts["rows"] += parsed.rows.num_rows
            for reason in parsed.rejects.column("reason").to_pylist():
                counts[f"rejected:{reason}"] += 1
            counts.update({f"taken:{name}": number for name, number in parsed.taken.items()})
            _write(unit, block.number, parsed)
    return {f"{unit.source}:{name}": count for name, count in counts.items()}


def parse(file: readers.Reader, block: Block, unit: Unit) -> amazon.Parsed:
    """Parses a block; if that raises an unexpected error, its halves, until the line to blame is rejected alone.

    Raises:
        VIP5Error: The file is not what the dataset says.
        OSError: The disk is at fault, and no line.
    """
    try:
        return file.parse(block)
    except (VIP5Error, OSError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - whatever a parser raises concerns a line
        if len(block.lines) == 1:
            fault = (block.first_line, "unreadable", f"{type(error).__name__}: {error}")
            table = schema.REVIEWS if unit.kind == "reviews" else schema.ITEMS
            return amazon.Parsed(table.arrow.empty_table(), amazon.rejected(unit.source, [fault]), 0)
    middle = len(block.lines) // 2
    first = replace(block, lines=block.lines[:middle], cut=False)
    second = replace(block, lines=block.lines[middle:], first_line=block.first_line + middle)
    halves = [parse(file, half, unit) for half in (first, second)]
    return amazon.Parsed(
        pa.concat_tables([half.rows for half in halves]),
        pa.concat_tables([half.rejects for half in halves]),
        sum(half.kept_lines for half in halves),
        sum((Counter(half.taken) for half in halves), Counter()),
    )


def is_own(unit: Unit, number: int) -> bool:
    """Whether the unit parses the block of this number."""
    return number % unit.params.readers_per_file == unit.reader


def reader_of(unit: Unit) -> readers.Reader:
    """The blocks of the unit's file and how one is parsed."""
    file = readers.File(
        path=unit.path, source=unit.source, kind=unit.kind, dataset=unit.dataset, params=unit.params,
        is_own=functools.partial(is_own, unit),
    )  # fmt: skip
    if unit.maps is None:
        return readers.reader(file)
    known = p5.bundle(unit.maps, unit.pickles)
    return readers.Reader(readers.lines(file), lambda block: p5.read_sequences(block, unit.source, known))


def _write(unit: Unit, number: int, parsed: amazon.Parsed) -> None:
    index = unit.place * BLOCKS_PER_FILE + number
    if parsed.rows.num_rows:
        table = schema.REVIEWS if unit.kind == "reviews" else schema.ITEMS
        tables.write_part(unit.staging, table, index, parsed.rows)
    if parsed.rejects.num_rows:
        tables.write_part(unit.staging_rejects, schema.REJECTS, index, parsed.rejects)
