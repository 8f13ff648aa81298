"""Parquet tables as folders of parts. `_manifest.json` is written last; a folder without one is not a table.

Writes `data/${dataset}/<table>/part-00000.parquet ...` from Arrow tables, and reads them back.
Trade-off: every write and read validates every row and byte (about 4 ms per million rows and column, 1 s per GB), so
that readers get exactly what the schema declares.
"""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from features.errors import TableError
from features.runtime.faults import disk_remedy
from features.runtime.params import digest
from features.schema import Table
from features.store.manifests import MANIFEST, file_digest, input_digest, read_manifest
from features.store.validation import check_key, check_order, check_rows, conform, key_of, schema_digest

__all__ = [
    "MANIFEST", "Provenance", "begin_table", "checked_parts", "file_digest", "finish_table", "from_rows",
    "input_digest", "read_manifest", "read_table", "schema_digest", "staging_of", "write_part", "write_table",
]  # fmt: skip

ROWS_PER_PART = 1_000_000
VECTORS_PER_PART = 8_192  # 12 MB at width 768; parts are written in parallel
_LIBRARIES = ("pyarrow", "numpy")


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """Origin of a table: the stage, its parameters and the tables or files that it read.

    `inputs` maps a name to a folder or file, or to its digest if that is known. A table is represented by its manifest,
    a file by its bytes.
    `notes` is free-form JSON for readers (such as the encoder and reject counts).
    """

    stage: str
    params: Any
    inputs: Mapping[str, Path | str] = field(default_factory=dict)
    notes: Mapping[str, Any] = field(default_factory=dict)


def write_table(
    folder: Path, table: Table, data: pa.Table, provenance: Provenance, *, rows_per_part: int | None = None
) -> int:
    """Sorts `data` by the table's key, validates and writes it; returns the number of rows.

    Raises:
        TableError: A column is missing, ill-typed, null or out of range, or a key is duplicated; nothing is written.
    """
    ordered = conform(data, table).sort_by([(name, "ascending") for name in table.key])
    check_key(ordered, table, folder)
    staging = begin_table(folder)
    size = rows_per_part or (VECTORS_PER_PART if _vectors(table) else ROWS_PER_PART)
    starts = range(0, max(ordered.num_rows, 1), size)
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda n: write_part(staging, table, n, ordered.slice(n * size, size)), range(len(starts))))
    return finish_table(folder, table, provenance)


def begin_table(folder: Path) -> Path:
    """Creates an empty staging folder next to `folder`, on the same file system, for `write_part`."""
    staging = staging_of(folder)
    with _writing(staging):
        for left in (staging, _retired(folder)):
            if left.exists():
                shutil.rmtree(left)
        staging.mkdir(parents=True)
    return staging


def staging_of(folder: Path) -> Path:
    """The staging folder of the table `folder`."""
    return folder.with_name(f".{folder.name}.staging")


def replace_folder(folder: Path) -> None:
    """Moves the staging folder of `folder` into its place, then deletes the previous one."""
    if folder.exists():
        folder.rename(_retired(folder))
    staging_of(folder).rename(folder)
    shutil.rmtree(_retired(folder), ignore_errors=True)


def _retired(folder: Path) -> Path:
    """The folder to which the previous table is moved before it is deleted."""
    return folder.with_name(f".{folder.name}.old")


def write_part(staging: Path, table: Table, index: int, data: pa.Table) -> Path:
    """Validates sorted `data` and writes part number `index`; idempotent and safe to run in parallel.

    Raises:
        TableError: A rule of the table is violated, or the disk is full or read-only; no part is left behind.
    """
    data = conform(data, table)
    check_rows(data, table)
    path = staging / f"part-{index:05d}.parquet"
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    vectors = _vectors(table)
    ranged = [c.name for c in table.columns if c.name not in vectors]  # statistics of vectors are useless
    repeating = [c.name for c in table.columns if pa.types.is_string(c.type)]
    repeating += [f"{c.name}.list.{c.type.value_field.name}" for c in table.columns if pa.types.is_list(c.type)]
    with _writing(path):
        pq.write_table(
            data.replace_schema_metadata(_metadata(data, table)),
            temporary,
            compression="zstd",
            compression_level=table.zstd_level,
            use_dictionary=False if vectors else repeating,
            row_group_size=VECTORS_PER_PART if vectors else 100_000,
            write_statistics=ranged if vectors else True,
            write_page_index=True,
            sorting_columns=[pq.SortingColumn(table.arrow.get_field_index(name)) for name in table.key if not vectors],
        )
        temporary.rename(path)
    return path


def _vectors(table: Table) -> list[str]:
    return [column.name for column in table.columns if pa.types.is_fixed_size_list(column.type)]


def _metadata(data: pa.Table, table: Table) -> dict[str, str]:
    bounds = [key_of(data, table, row) for row in (0, -1)] if data.num_rows else [None, None]
    own = {"schema_digest": schema_digest(table), "first_key": json.dumps(bounds[0]), "last_key": json.dumps(bounds[1])}
    return table.metadata | own


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Converts OSError to TableError and removes incomplete files."""
    try:
        yield
    except OSError as error:
        for begun in path.parent.glob(f"{path.stem}.{os.getpid()}.tmp"):
            begun.unlink(missing_ok=True)
        reason = error.strerror or str(error).splitlines()[0]
        raise TableError(f"{path} that cannot be written ({reason})", *disk_remedy(error)) from error


def finish_table(folder: Path, table: Table, provenance: Provenance) -> int:
    """Writes the manifest of the staged parts and moves the folder into place; returns the number of rows.

    Raises:
        TableError: Keys do not ascend from part to part, or the disk is full or read-only.
    """
    staging = staging_of(folder)
    parts = {}
    last: list[Any] | None = None
    for path, sha256 in _hashed(staging):
        metadata = pq.read_metadata(path)
        last = _following(last, metadata.metadata, table, path)
        parts[path.name] = {"rows": metadata.num_rows, "bytes": path.stat().st_size, "sha256": sha256}
    manifest = {
        "table": table.name,
        "rows": sum(part["rows"] for part in parts.values()),
        "schema_digest": schema_digest(table),
        "stage": provenance.stage,
        "params_digest": digest(provenance.params),
        "inputs": {
            name: place if isinstance(place, str) else input_digest(place)
            for name, place in sorted(provenance.inputs.items())
        },
        "libraries": _libraries(),
        "notes": dict(provenance.notes),
        "parts": parts,
    }
    with _writing(folder):
        for stray in staging.glob("*.tmp"):
            stray.unlink()
        (staging / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        replace_folder(folder)
    return int(manifest["rows"])


def _hashed(staging: Path) -> list[tuple[Path, str]]:
    """The staged parts in key order, each with its SHA-256, computed in threads."""
    paths = sorted(staging.glob("part-*.parquet"), key=lambda path: int(path.stem.removeprefix("part-")))
    with ThreadPoolExecutor() as threads:
        return list(zip(paths, threads.map(file_digest, paths), strict=True))


def _following(last: list[Any] | None, metadata: Mapping[bytes, bytes], table: Table, path: Path) -> list[Any] | None:
    """The last key of a part, after checking that the part follows the key `last`."""
    first, end = (json.loads(metadata[name]) for name in (b"first_key", b"last_key"))
    if last is not None and first is not None and (first < last or (table.unique and first == last)):
        raise TableError(
            f"{path.name} of {table.name} that begins with the key {first} after {last}",
            f"parts that ascend by {table.key}", f"fix the stage that writes {table.name}",
        )  # fmt: skip
    return last if end is None else list(end)


def checked_parts(folder: Path, table: Table) -> list[Path]:
    """The parts of a finished table in key order, for lazy readers.

    Every byte is checked against the manifest; rows were validated when they were written.

    Raises:
        TableError: The table is missing, half-written, stale, modified, or of another schema.
    """
    manifest = read_manifest(folder)
    _check_schema(folder, table, manifest)
    for path, part in _listed(folder, manifest):
        if file_digest(path) != part["sha256"]:
            raise _changed(path, part)
    return [path for path, _ in _listed(folder, manifest)]


def read_table(
    folder: Path, table: Table | Callable[[int], Table], *, columns: Sequence[str] | None = None
) -> pa.Table:
    """Reads a finished table in key order and validates it against its declaration and manifest.

    Args:
        folder: Folder of the table, such as `data/sample/sequences/users`.
        table: Its declaration; for embedding tables, the function of their width.
        columns: Columns to read, in this order; None for all.

    Raises:
        TableError: The table is missing, half-written, stale, modified, of another schema, or a row violates a rule of
            the columns read.
    """
    manifest = read_manifest(folder)
    listed = _listed(folder, manifest)
    if not isinstance(table, Table):
        table = table(pq.read_schema(listed[0][0]).field("embedding").type.list_size)
    _check_schema(folder, table, manifest)
    names = None if columns is None else list(columns)
    rows = pa.concat_tables([_read_part(path, part, table, names) for path, part in listed])
    rows = rows.replace_schema_metadata(None)
    if set(table.key) <= set(rows.column_names) and len(listed) > 1:
        check_order(rows, table)
    return rows if names is None else rows.select(names)


def _read_part(path: Path, part: Mapping[str, Any], table: Table, columns: list[str] | None) -> pa.Table:
    """One part; rule violations are reported before changed bytes, because they are more specific."""
    buffer = pa.memory_map(str(path)).read_buffer()
    try:
        rows = pq.read_table(pa.BufferReader(buffer), columns=columns)
    except (pa.ArrowInvalid, OSError) as error:
        raise _changed(path, part) from error
    check_rows(rows, table)
    if hashlib.sha256(buffer).hexdigest() != part["sha256"]:
        raise _changed(path, part)
    return rows


def _listed(folder: Path, manifest: Mapping[str, Any]) -> list[tuple[Path, dict[str, Any]]]:
    """The parts listed in the manifest with their entries, in key order, after checking their presence and size."""
    names = sorted(manifest["parts"], key=lambda name: int(Path(name).stem.removeprefix("part-")))
    listed = [(folder / name, manifest["parts"][name]) for name in names]
    for path, part in listed:
        if not path.is_file() or path.stat().st_size != part["bytes"]:
            raise _changed(path, part)
    return listed


def _changed(path: Path, part: Mapping[str, Any]) -> TableError:
    expected = f"{part['bytes']} bytes of SHA-256 {part['sha256'][:16]}"
    return TableError(f"part {path} changed since its manifest", expected, "run `.venv/bin/dvc repro`")


def _check_schema(folder: Path, table: Table, manifest: Mapping[str, Any]) -> None:
    if manifest["schema_digest"] != schema_digest(table):
        raise TableError(
            f"schema {manifest['schema_digest']} in {folder}", f"{schema_digest(table)} ({table.name})",
            "run `.venv/bin/dvc repro` to renew it",
        )  # fmt: skip


def from_rows(table: Table, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """An Arrow table of the declared schema from row mappings, for small tables and tests."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=table.arrow)


def _libraries() -> dict[str, str]:
    """Versions that may change the bytes of a part; Python without the patch version."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python} | {name: version(name) for name in _LIBRARIES}
