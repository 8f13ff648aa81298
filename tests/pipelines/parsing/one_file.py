"""Reads one file of a made-up dump as the workers of `records` do."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from features.runtime.datasets import Dataset
from pipelines.parsing import readers
from pipelines.parsing.config import Params
from pipelines.parsing.table_columns import Kind


@dataclass(frozen=True)
class Found:
    """Rows and rejects of a file, and the number of its lines."""

    rows: list[dict[str, Any]]
    rejects: list[dict[str, Any]]
    num_lines: int
    num_kept: int

    def reasons(self) -> list[tuple[int, str]]:
        """Line and reason of each reject."""
        return [(row["line"], row["reason"]) for row in self.rejects]

    def pairs(self) -> list[tuple[str, str]]:
        """User and item of each review."""
        return [(row["user_key"], row["item_key"]) for row in self.rows]


def read(
    folder: Path, data: bytes, form: str, *, name: str = "x.csv", kind: Kind = "reviews",
    params: Params | None = None, **entry: Any,
) -> Found:  # fmt: skip
    """The whole file, parsed by one reader."""
    path = folder / name
    path.write_bytes(data)
    dataset = Dataset(format=form, reviews=(name,), metadata=(), **entry)  # type: ignore[arg-type]
    file = readers.File(
        path=path, source=name, kind=kind, dataset=dataset, params=params or Params(), is_own=lambda _: True
    )
    reader = readers.reader(file)
    blocks = list(reader.blocks)
    parsed = [reader.parse(block) for block in blocks]
    return Found(
        [row for one in parsed for row in _rows(one.rows)],
        [row for one in parsed for row in _rows(one.rejects)],
        sum(len(block.lines) for block in blocks),
        sum(one.kept_lines for one in parsed),
    )


def _rows(table: pa.Table) -> list[dict[str, Any]]:
    return list(table.to_pylist())
