"""Chooses how a file of a dump is read: by the dataset's format, then by the container that its first bytes show.

Reads a file and its dataset. Returns its blocks and the function that parses one of them.

Containers of every format of records: lines, a JSON array, a CSV export with the dump's field names, Parquet; each may
be gzipped or the member of a zip archive, except Parquet.
"""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.errors import InputError
from features.runtime.datasets import Dataset
from pipelines.parsing import (
    amazon,
    amazon_rows,
    bare_sequences,
    byte_pieces,
    delimited,
    json_arrays,
    line_blocks,
    parquet_rows,
    ratings,
    table_records,
)
from pipelines.parsing.amazon import Parsed
from pipelines.parsing.config import Params
from pipelines.parsing.delimited import Dialect
from pipelines.parsing.lenient_values import Fault, Reading
from pipelines.parsing.line_blocks import Block
from pipelines.parsing.table_columns import Kind, Layout, layout
from pipelines.recognition.file_look import UTF_16_MARKS, look

TABLE_FORMATS = ("ratings", "recbole")
SEQUENCE_FORMATS = ("sequences", "openp5")
_LOOKED_AT = 1_000  # records
_TYPES = ("token", "float", "token_seq", "float_seq")


@dataclass(frozen=True)
class Reader:
    """The blocks of a file, and how one is parsed."""

    blocks: Iterator[Block]
    parse: Callable[[Block], Parsed]


@dataclass(frozen=True, kw_only=True)
class File:
    """A file of a dump: what it holds and how it is to be read; `is_own` says which blocks are wanted."""

    path: Path
    source: str
    kind: Kind
    dataset: Dataset
    params: Params
    is_own: Callable[[int], bool]


def reader(file: File) -> Reader:
    """The reader of a file.

    Raises:
        InputError: A table lacks a required column, or a file cannot be opened.
    """
    form = file.dataset.format
    begin = byte_pieces.beginning(file.path)
    _check_text(file.source, begin)
    if file.kind == "reviews" and form in TABLE_FORMATS:
        return _ratings(file, begin)
    if file.kind == "reviews" and form in SEQUENCE_FORMATS:
        numeric = form == "sequences"
        return Reader(lines(file), lambda block: bare_sequences.read_sequences(block, file.source, numeric=numeric))
    if begin.startswith(parquet_rows.MAGIC):
        return Reader(_parquet_records(file), functools.partial(_parse_json, file=file))
    if json_arrays.is_array(begin):
        return Reader(_elements(file), functools.partial(_parse_json, file=file))
    if begin.lstrip()[:1] not in (b"{", b""):
        return _text_records(file, begin)
    return Reader(lines(file), functools.partial(_parse_json, file=file))


def _check_text(source: str, begin: bytes) -> None:
    """Raises InputError for a text of another encoding or with the line ends of the first Macintosh."""
    if begin.startswith(UTF_16_MARKS):
        action = f"write {source} in UTF-8 and bring it in again (in Excel: save as CSV UTF-8)"
        raise InputError(f"{source} in UTF-16", "text in UTF-8", action)
    if b"\r" in begin.rstrip() and b"\n" not in begin and b"\0" not in begin:
        action = f"convert it (tr '\\r' '\\n' < {source} > new) and bring it in again"
        raise InputError(f"{source} whose lines end in carriage returns alone", "lines that end in line feeds", action)


def _text_records(file: File, begin: bytes) -> Reader:
    """The reader of records that are not JSON: OpenP5's item texts, an item table, an export, or literals."""
    form = file.dataset.format
    if form == "openp5" and file.kind == "items":
        return Reader(lines(file), lambda block: bare_sequences.read_item_texts(block, file.source))
    is_table = form in (*TABLE_FORMATS, *SEQUENCE_FORMATS)
    names = _first_rows(begin, delimited.sniffed(_first_line(begin)), file)[:1]
    if names and table_records.is_export(names[0], file.kind, beside_tables=is_table):
        return _export(file, begin, names[0])
    if is_table:
        return _item_table(file, begin)
    return Reader(lines(file), functools.partial(_parse_json, file=file))


def _elements(file: File) -> Iterator[Block]:
    params = file.params
    pieces = byte_pieces.pieces(file.path, params.max_decompression_ratio)
    elements = json_arrays.element_runs(pieces, params.max_line_bytes)
    return line_blocks.grouped(elements, params.lines_per_block)


def lines(file: File) -> Iterator[Block]:
    """The file's lines as blocks."""
    params = file.params
    return line_blocks.blocks(
        file.path, params.lines_per_block, params.max_line_bytes, params.max_decompression_ratio
    )  # fmt: skip


def _parse_json(block: Block, file: File) -> Parsed:
    reading = Reading(file.dataset.rating_range, file.dataset.time_unit)
    if file.kind == "reviews":
        return amazon.read_reviews(block, file.source, file.dataset.format, reading)
    row_of = amazon.ITEM_READERS.get(file.dataset.format, item_of_any_dump)
    return amazon.read_items(block, file.source, row_of, reading)


def item_of_any_dump(record: Mapping[str, Any], reading: Reading) -> amazon_rows.Row | Fault:
    """Metadata of the Amazon dump whose field names the record has."""
    if "parent_asin" in record:
        return amazon_rows.item_2023(record, reading)
    is_2018 = any(name in record for name in ("category", "imageURL", "imageURLHighRes"))
    row_of = amazon_rows.item_2018 if is_2018 and "imUrl" not in record else amazon_rows.item_2014
    return row_of(record, reading)


def _ratings(file: File, begin: bytes) -> Reader:
    if begin.startswith(parquet_rows.MAGIC):
        names = parquet_rows.column_names(file.path)
        whole = _layout([names], file)
        used = sorted(set(whole.places.values()))
        places = {name: used.index(place) for name, place in whole.places.items()}
        columns = [names[place] for place in used]
        found, dialect = Layout(False, len(used), places), parquet_rows.DIALECT
        blocks = parquet_rows.batches(
            file.path, file.params.lines_per_block, columns, parquet_rows.cell_lines, file.is_own
        )  # fmt: skip
    else:
        dialect = _dialect(file, begin)
        found = _layout(_first_rows(begin, dialect, file), file)
        blocks = _records(file, dialect, header=found.header)
    return Reader(blocks, lambda block: ratings.read_ratings(block, file.source, dialect, found, file.dataset))


def _layout(rows: Sequence[Sequence[str]], file: File) -> Layout:
    """The columns of the file; an error says what the file looks like."""
    try:
        return layout(rows, file.kind, file.dataset.columns, file.source)
    except InputError as error:
        seen = look(file.path)
        strange = seen.format not in (None, *TABLE_FORMATS)
        action = f"set datasets.NAME.format: {seen.format}" if strange and file.kind == "reviews" else error.action
        found = f"{error.found}; it looks like {seen.summary}" if strange else error.found
        raise InputError(found, error.expected, action) from error


def _item_table(file: File, begin: bytes) -> Reader:
    dialect = _dialect(file, begin)
    found = _layout(_first_rows(begin, dialect, file), file)
    line = functools.partial(
        table_records.item_line, found.places, spaced=file.dataset.format == "recbole"
    )  # fmt: skip
    return _rows_as_json(file, dialect, line, header=found.header)


def _export(file: File, begin: bytes, names: Sequence[str]) -> Reader:
    trimmed = [name.strip() for name in names]
    line = functools.partial(table_records.amazon_line, trimmed, kind=file.kind)
    return _rows_as_json(file, delimited.sniffed(_first_line(begin)), line, header=True)


def _rows_as_json(file: File, dialect: Dialect, line: Callable[[Sequence[Any]], bytes], *, header: bool) -> Reader:
    return Reader(
        _records(file, dialect, header=header),
        lambda block: _parse_json(_as_json(block, dialect, line), file),
    )


def _as_json(block: Block, dialect: Dialect, line: Callable[[Sequence[Any]], bytes]) -> Block:
    """The block with JSON lines; a record that cannot be read stays as it is, to be rejected."""
    found, unread = delimited.texts(block)
    rows = delimited.cells(["" if text is None else text for text in found], dialect)
    lines = [
        block.lines[place] if place in unread or not any(row) else line(row) for place, row in enumerate(rows)
    ]  # fmt: skip
    return Block(block.number, block.first_line, lines, block.long, block.cut)


def _parquet_records(file: File) -> Iterator[Block]:
    names = parquet_rows.column_names(file.path)
    places: dict[str, int] | None = None
    is_table = file.dataset.format in (*TABLE_FORMATS, *SEQUENCE_FORMATS)
    if is_table and not table_records.is_export(names, file.kind, beside_tables=True):
        whole = _layout([names], file).places
        columns = [names[place] for place in sorted(set(whole.values()))]
        places = {name: columns.index(names[place]) for name, place in whole.items()}
    else:
        columns = [name for name in names if name in table_records.AMAZON_FIELDS[file.kind]]
    lines = functools.partial(table_records.batch_lines, kind=file.kind, places=places)
    return parquet_rows.batches(file.path, file.params.lines_per_block, columns, lines, file.is_own)


def _records(file: File, dialect: Dialect, *, header: bool) -> Iterator[Block]:
    params = file.params
    runs = line_blocks.line_runs(file.path, params.max_line_bytes, params.max_decompression_ratio)
    records = delimited.record_runs(line_blocks.unmarked(runs), dialect, params.max_line_bytes)
    first = 2 if header else 1
    return line_blocks.grouped(_without_first(records) if header else records, params.lines_per_block, first)


def _without_first(runs: Iterator[line_blocks.Run]) -> Iterator[line_blocks.Run]:
    for run in runs:
        if run.lines:
            yield line_blocks.Run(run.lines[1:], tuple(n - 1 for n in run.long if n), run.cut)
            break
    yield from runs


def _dialect(file: File, begin: bytes) -> Dialect:
    line = _first_line(begin)
    named = [cell.rsplit(":", 1)[-1].strip() for cell in line.decode(errors="replace").split("\t")]
    if file.dataset.format == "recbole" and any(name in _TYPES for name in named):
        return Dialect("\t", quoted=False)
    return delimited.sniffed(line)


def _first_line(begin: bytes) -> bytes:
    return begin.split(b"\n", 1)[0].removesuffix(b"\r")


def _first_rows(begin: bytes, dialect: Dialect, file: File) -> list[list[str]]:
    """The cells of the first records, without one that the end of `begin` may cut."""
    lines = [line.removesuffix(b"\r") for line in begin.split(b"\n")] if begin else []
    if len(lines) > 1:
        lines.pop()
    looked_at = [line_blocks.Run(lines[:_LOOKED_AT])]
    runs = delimited.record_runs(looked_at, dialect, file.params.max_line_bytes)
    return delimited.cells([record.decode(errors="replace") for run in runs for record in run.lines], dialect)
