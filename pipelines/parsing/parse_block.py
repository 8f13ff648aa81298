"""Units of work of `records`: the blocks of one file that belong to one reader, planned and parsed.

Reads a `Unit`. Writes one part per block into the staging folders and returns line counts.
Trade-off: units write their parts themselves; passing rows through Beam would cost 20 times as much as parsing them.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from features import schema
from features.runtime.datasets import Dataset
from features.store import tables
from pipelines.parsing import amazon, p5
from pipelines.parsing.config import Params
from pipelines.parsing.lenient_values import Reading
from pipelines.parsing.line_blocks import Block, blocks

BLOCKS_PER_FILE = 1_000_000
Kind = Literal["reviews", "items"]


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Blocks `reader`, `reader + params.readers_per_file`, ... of one file.

    `source` is the file's name in the dump, `place` its index among all files sorted by name; `maps` is p5's
    `datamaps.json`, `pickles` are the optional files of a p5 folder.
    """

    params: Params
    dataset: Dataset
    kind: Kind
    format: str
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
            params=params, dataset=dataset, kind=kind, format=dataset.format, source=name, path=paths[name],
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
    params = unit.params
    for block in blocks(unit.path, params.lines_per_block, params.max_line_bytes, params.max_decompression_ratio):
        counts["seen"] += len(block.lines)
        if block.number % params.readers_per_file == unit.reader:
            parsed = parse(unit, block)
            counts["lines"] += len(block.lines)
            counts["kept"] += parsed.kept_lines
            counts["rejected"] += parsed.rejects.num_rows
            counts["rows"] += parsed.rows.num_rows
            for reason in parsed.rejects.column("reason").to_pylist():
                counts[f"rejected:{reason}"] += 1
            counts.update({f"taken:{name}": number for name, number in parsed.taken.items()})
            _write(unit, block.number, parsed)
    return {f"{unit.source}:{name}": count for name, count in counts.items()}


def parse(unit: Unit, block: Block) -> amazon.Parsed:
    """Parses one block in the unit's format."""
    reading = Reading(unit.dataset.rating_range, unit.dataset.time_unit)
    if unit.kind == "items":
        return amazon.read_items(block, unit.source, amazon.ITEM_READERS[unit.format], reading)
    if unit.maps is not None:
        return p5.read_sequences(block, unit.source, p5.bundle(unit.maps, unit.pickles))
    return amazon.read_reviews(block, unit.source, unit.format, reading)


def _write(unit: Unit, number: int, parsed: amazon.Parsed) -> None:
    index = unit.place * BLOCKS_PER_FILE + number
    if parsed.rows.num_rows:
        table = schema.REVIEWS if unit.kind == "reviews" else schema.ITEMS
        tables.write_part(unit.staging, table, index, parsed.rows)
    if parsed.rejects.num_rows:
        tables.write_part(unit.staging_rejects, schema.REJECTS, index, parsed.rejects)
