"""Reads a Parquet file as blocks: of metadata or reviews as JSON lines, or of ratings as lines of cells.

Trade-off: rows become lines of text that are parsed again, so that rules, reasons and excerpts are those of the text
formats. Every reader decodes the whole file, and makes the lines of its own blocks only.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.errors import InputError
from pipelines.parsing.delimited import Dialect
from pipelines.parsing.line_blocks import Block

MAGIC = b"PAR1"
DIALECT = Dialect("\x1f", quoted=False)
Lines = Callable[[pa.RecordBatch], list[bytes]]


def column_names(path: Path) -> list[str]:
    """Names of the columns.

    Raises:
        InputError: The file is not complete.
    """
    try:
        return list(pq.read_schema(path).names)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def batches(
    path: Path, rows_per_block: int, columns: Sequence[str], lines: Lines, is_own: Callable[[int], bool]
) -> Iterator[Block]:
    """The rows as blocks; those of other readers hold empty lines.

    Args:
        path: The file.
        rows_per_block: Rows per block.
        columns: Columns to read.
        lines: Makes the lines of a batch.
        is_own: Whether this reader parses the block of a number.

    Raises:
        InputError: The file is damaged.
    """
    first_line = 1
    try:
        file = pq.ParquetFile(path)
        for number, batch in enumerate(file.iter_batches(rows_per_block, columns=list(columns), use_threads=False)):
            yield Block(number, first_line, lines(batch) if is_own(number) else [b""] * batch.num_rows)
            first_line += batch.num_rows
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path, error) from error


def cell_lines(batch: pa.RecordBatch) -> list[bytes]:
    """The rows as lines of `DIALECT`; null is an empty cell."""
    columns = [pc.replace_substring(_text(column), DIALECT.delimiter, " ") for column in batch.columns]
    joined = pc.binary_join_element_wise(*columns, DIALECT.delimiter, null_handling="replace", null_replacement="")
    return list(joined.cast(pa.binary()).to_pylist())


def _text(column: pa.Array) -> pa.Array:
    try:
        return column.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # a nested column, or bytes that are not UTF-8
        return pa.nulls(len(column), pa.string())


def _damaged(path: Path, error: Exception) -> InputError:
    return InputError(f"{path} that cannot be read as Parquet ({error})", "a complete Parquet file", "ingest it again")
