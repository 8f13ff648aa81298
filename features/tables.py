"""Parquet tables as folders: parts, then `_manifest.json`, then one rename. A table without a manifest does not exist.

Enters: Arrow tables and the declared schema. Leaves: `data/${dataset}/<table>/part-00000.parquet ...`, or Arrow tables.
Trade-off: every write validates every column (about 30 ms a million rows and column), so that a reader never has to.
"""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from features.errors import TableError
from features.params import digest
from features.schema import Column, Table

MANIFEST = "_manifest.json"
ROWS_PER_PART = 1_000_000
_LIBRARIES = ("pyarrow", "numpy")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Where a table comes from: the stage, its parameters and the tables or files it read.

    `inputs` maps a name to a folder or file; a table is represented by its manifest, a file by its bytes.
    `notes` is free JSON for what a reader must know (which encoder, how many rejects).
    """

    stage: str
    params: Any
    inputs: Mapping[str, Path] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


def write_table(
    folder: Path, table: Table, data: pa.Table, provenance: Provenance, *, rows_per_part: int = ROWS_PER_PART
) -> int:
    """Sorts `data` by the table's key, validates it and writes it whole; returns the number of rows.

    Raises:
        TableError: a column is missing, ill-typed, null, out of range or the key repeats; nothing is left behind.
    """
    staging = begin_table(folder)
    ordered = conform(data, table).sort_by([(name, "ascending") for name in table.key])
    check_key(ordered, table, folder)
    for index, start in enumerate(range(0, max(ordered.num_rows, 1), rows_per_part)):
        write_part(staging, table, index, ordered.slice(start, rows_per_part))
    return finish_table(folder, table, provenance)


def begin_table(folder: Path) -> Path:
    """An empty staging folder beside `folder`, on the same file system, for `write_part`."""
    staging = staging_of(folder)
    if staging.exists():
        shutil.rmtree(staging)
    staging.mkdir(parents=True)
    return staging


def staging_of(folder: Path) -> Path:
    """Where the parts of `folder` wait until the table is finished."""
    return folder.with_name(f".{folder.name}.staging")


def write_part(staging: Path, table: Table, index: int, data: pa.Table) -> Path:
    """Validates `data` (already sorted) and writes part number `index`; safe to repeat and to run in parallel."""
    data = conform(data, table)
    for column in table.columns:
        check_column(data, table, column)
    path = staging / f"part-{index:05d}.parquet"
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    vectors = [c.name for c in table.columns if pa.types.is_fixed_size_list(c.type)]
    pq.write_table(
        data.replace_schema_metadata(table.metadata | {"schema_digest": schema_digest(table)}),
        temporary,
        compression="zstd",
        compression_level=3,
        use_dictionary=[c.name for c in table.columns if pa.types.is_string(c.type)] if not vectors else False,
        row_group_size=16_384 if vectors else 100_000,
        write_page_index=True,
        sorting_columns=[pq.SortingColumn(table.arrow.get_field_index(name)) for name in table.key if not vectors],
    )
    temporary.rename(path)
    return path


def finish_table(folder: Path, table: Table, provenance: Provenance) -> int:
    """Writes the manifest of the staged parts and puts the folder in its place; returns the number of rows."""
    staging = staging_of(folder)
    parts = {}
    for path in sorted(staging.glob("part-*.parquet")):
        rows = pq.read_metadata(path).num_rows
        parts[path.name] = {"rows": rows, "bytes": path.stat().st_size, "sha256": file_digest(path)}
    for stray in staging.glob("*.tmp"):
        stray.unlink()
    manifest = {
        "table": table.name,
        "rows": sum(part["rows"] for part in parts.values()),
        "schema_digest": schema_digest(table),
        "stage": provenance.stage,
        "params_digest": digest(provenance.params),
        "inputs": {name: input_digest(path) for name, path in sorted(provenance.inputs.items())},
        "libraries": _libraries(),
        "notes": dict(provenance.notes),
        "parts": parts,
    }
    (staging / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    if folder.exists():
        shutil.rmtree(folder)
    staging.rename(folder)
    return int(manifest["rows"])


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished table.

    Raises:
        TableError: the table does not exist, or was left half-written.
    """
    path = folder / MANIFEST
    if not path.is_file():
        state = "a half-written table" if folder.exists() else "no table"
        raise TableError(
            f"{state} at {folder}", f"a folder with {MANIFEST}", "run `dvc repro` (it makes what is missing)"
        )
    loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return loaded


def read_table(
    folder: Path, table: Table | Callable[[int], Table], *, columns: Sequence[str] | None = None
) -> pa.Table:
    """The rows of a finished table in key order.

    Args:
        folder: such as `data/sample/sequences/users`.
        table: its declaration, or the function of the width for the embedding tables.
        columns: only these, in this order.

    Raises:
        TableError: absent, half-written, changed since, or written with another schema.
    """
    manifest = read_manifest(folder)
    for name, part in manifest["parts"].items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != part["bytes"]:
            raise TableError(f"part {path} changed since its manifest", f"{part['bytes']} bytes", "run `dvc repro`")
    files = [str(folder / name) for name in sorted(manifest["parts"])]
    if not isinstance(table, Table):
        table = table(pq.read_schema(files[0]).field("embedding").type.list_size)
    if manifest["schema_digest"] != schema_digest(table):
        raise TableError(
            f"schema {manifest['schema_digest']} in {folder}",
            f"{schema_digest(table)} ({table.name})",
            "run `dvc repro` to renew it",
        )
    tables = [pq.read_table(name, columns=None if columns is None else list(columns)) for name in files]
    rows = pa.concat_tables(tables).replace_schema_metadata(None)
    return rows if columns is None else rows.select(list(columns))


def conform(data: pa.Table, table: Table) -> pa.Table:
    """`data` with the declared columns in the declared order and types.

    Raises:
        TableError: a declared column is missing, an undeclared one is there, or a type cannot be cast safely.
    """
    declared, found = set(table.arrow.names), set(data.schema.names)
    if declared != found:
        raise TableError(
            f"columns missing {sorted(declared - found)} and undeclared {sorted(found - declared)} in {table.name}",
            f"{table.arrow.names}", "mend the stage that writes it, or features/schema.py",
        )  # fmt: skip
    for column in table.columns:
        check_nulls(data, table, column)
    return pa.table([_cast(data.column(c.name), table, c) for c in table.columns], schema=table.arrow)


def _cast(values: pa.ChunkedArray, table: Table, column: Column) -> pa.ChunkedArray:
    try:
        return values.cast(column.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise TableError(
            f"{table.name} with {column.name} of type {values.type} ({str(error).splitlines()[0]:.120})",
            str(column.type), f"mend the stage that writes {table.name}",
        ) from error  # fmt: skip


def check_nulls(data: pa.Table, table: Table, column: Column) -> None:
    """Raises TableError with the count and three rows if `column`, or a list in it, holds a null it must not hold."""
    values = data.column(column.name)
    if not column.nullable:
        _refuse(data, table, column, "must not be null", pc.is_null(values))
    listed = pa.types.is_nested(values.type) and pa.types.is_nested(column.type)
    if listed and not column.type.value_field.nullable:
        elements = pc.list_flatten(values)
        if elements.null_count:
            rows = pc.list_parent_indices(values.combine_chunks()).filter(pc.is_null(elements.combine_chunks()))
            holds = pc.is_in(pa.array(range(data.num_rows), rows.type), rows)
            _refuse(data, table, column, "must hold no null", holds)


def check_column(data: pa.Table, table: Table, column: Column) -> None:
    """Raises TableError with the rule, the count and three offending rows if `column` breaks its declaration."""
    check_nulls(data, table, column)
    values = data.column(column.name)
    if column.values:
        known = pc.is_in(values, pa.array(column.values))
        _refuse(data, table, column, f"must be one of {column.values}", pc.and_(pc.is_valid(values), pc.invert(known)))
    if column.minimum is not None:
        _refuse(data, table, column, f"must be at least {column.minimum:g}", pc.less(values, column.minimum))
    if column.maximum is not None:
        _refuse(data, table, column, f"must be at most {column.maximum:g}", pc.greater(values, column.maximum))
    if pa.types.is_floating(column.type):
        _refuse(data, table, column, "must be finite", pc.invert(pc.is_finite(values)))


def _refuse(data: pa.Table, table: Table, column: Column, rule: str, broken: Any) -> None:
    """Raises TableError if any row is `broken` (Boolean; null: not broken)."""
    count = pc.sum(broken).as_py() or 0
    if count:
        rows = data.filter(broken, null_selection_behavior="drop").slice(0, 3).select([*table.key, column.name])
        raise TableError(
            f"{count} rows of {table.name} where {column.name} {rule} does not hold, such as "
            f"{', '.join(_short(row) for row in rows.to_pylist())}",
            "none", f"mend the stage that writes {table.name}",
        )  # fmt: skip


def _short(row: Mapping[str, Any]) -> str:
    """A row for an error message, at most 100 characters."""
    text = repr(dict(row))
    return text if len(text) <= 100 else f"{text[:96]} ...}}"


def check_key(data: pa.Table, table: Table, folder: Path) -> None:
    """Raises TableError with three examples if a key of `table` occurs twice in `data`."""
    if not table.unique or data.num_rows == 0:
        return
    counts = data.group_by(list(table.key)).aggregate([([], "count_all")])
    repeated = counts.filter(pc.greater(counts["count_all"], 1))
    if repeated.num_rows:
        raise TableError(
            f"{repeated.num_rows} repeated keys {table.key} in {folder}, such as {repeated.slice(0, 3).to_pylist()}",
            "unique keys", f"mend the stage that writes {table.name}",
        )  # fmt: skip


def from_rows(table: Table, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """An Arrow table of the declared schema from mappings, for small tables and tests."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=table.arrow)


def schema_digest(table: Table) -> str:
    """A digest of the names, types, nullability and rules of `table`; meanings may be reworded freely."""
    return digest([
        table.name, table.key,
        [(c.name, str(c.type), c.nullable, c.values, c.minimum, c.maximum) for c in table.columns],
    ])  # fmt: skip


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def input_digest(path: Path) -> str:
    """16 hex digits for a table (its manifest), a file (its bytes) or a folder of files (their names and bytes)."""
    manifest = path / MANIFEST
    if manifest.is_file():
        return file_digest(manifest)[:16]
    if path.is_file():
        return file_digest(path)[:16]
    if not path.is_dir():
        raise TableError(f"no input {path}", "a table, file or folder", "run `dvc repro`")
    files = sorted(entry for entry in path.rglob("*") if entry.is_file())
    return digest([(str(entry.relative_to(path)), file_digest(entry)) for entry in files])


def _libraries() -> dict[str, str]:
    """Versions that could change the bytes of a part; of Python only the minor one, so that patches move nothing."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python} | {name: version(name) for name in _LIBRARIES}
