"""Driver of `records`: creates units of work, checks line counts, rejects duplicate items, finishes tables.

Writes the three tables, or none.
Trade-off: the first line of an item is known only after all lines are parsed, so parts with a duplicate item are
written twice. The keys of a catalogue of more than two million lines are read in several passes, one share each.
"""

import dataclasses
import logging
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from features import schema
from features.errors import InputError, TableError
from features.runtime import datasets, stage
from features.runtime.params import build
from features.store import tables
from pipelines.beam.runner import BeamParams, run_units
from pipelines.parsing import line_blocks, p5
from pipelines.parsing.config import Params
from pipelines.parsing.parse_block import Kind, Unit, work

log = logging.getLogger("vip5")
_KEYS_AT_ONCE = 2_000_000  # about 300 MB


def write_records(params: Params, context: stage.Context) -> int:
    """Writes the three tables of `records` and returns their number of rows.

    Raises:
        InputError: A file is missing or not in the format that its name implies; nothing is written.
        TableError: The runner lost or repeated work.
    """
    context = dataclasses.replace(context, root=context.root.resolve())  # workers may run in another folder
    dataset = datasets.dataset(context.shared, context.dataset)
    paths = {name: _found(context, name) for name in dataset.files}
    if dataset.format == "p5":
        p5.bundle(paths[dataset.reviews[1]], tuple(paths[name] for name in dataset.reviews[2:]))
    beam = build(BeamParams, context.shared["beam"], where="beam")
    beam.check()
    folders = {name: context.table(f"records/{name}") for name in ("reviews", "items", "rejects")}
    staging = {name: tables.begin_table(folder) for name, folder in folders.items()}
    try:
        units = _units(params, dataset, paths, staging)
        with ThreadPoolExecutor(1) as beside:  # hashes the dump while this process waits for the workers
            hashed = beside.map(tables.input_digest, paths.values())
            counts = run_units("records", units, work, beam, staging["rejects"] / "counts.json")
            digests = dict(zip(paths, hashed, strict=True))  # shared by the three tables
        sources = sorted({unit.source for unit in units})
        check_accounts(counts, sources, params.readers_per_file)
        repeated = _reject_repeated_items(staging["items"], staging["rejects"])
        accounts = _accounts(counts, sources, repeated)
        _check_rows(staging, accounts, set(dataset.metadata))
        shown = {"lines_per_block": params.lines_per_block, "max_line_bytes": params.max_line_bytes}
        provenance = tables.Provenance(stage="records", params=shown, inputs=digests, notes={"files": accounts})
        return _finish(folders, staging, provenance)
    finally:  # nothing is left to remove after a success
        for folder in staging.values():
            shutil.rmtree(folder, ignore_errors=True)


def _found(context: stage.Context, name: str) -> Path:
    path = context.raw / name
    if path.exists() and not path.is_file():
        raise InputError(
            f"{path} that is not a file", f"{name}, a file of dataset {context.dataset}", "ingest it again"
        )
    if not path.is_file():
        problem = f"no file {path}" if context.raw.is_dir() else f"no folder {context.raw}"
        ingest = f".venv/bin/python -m flows.ingest {context.dataset} --from FOLDER"
        action = "dvc repro sample" if context.dataset == "sample" else ingest
        raise InputError(problem, f"{name}, a file of dataset {context.dataset}", f"`{action}`")
    line_blocks.check_gzip(path)
    return path


def _units(
    params: Params, dataset: datasets.Dataset, paths: Mapping[str, Path], staging: Mapping[str, Path]
) -> list[Unit]:
    is_p5 = dataset.format == "p5"
    places = sorted(dataset.files)
    kinds: list[tuple[Kind, tuple[str, ...]]] = [
        ("reviews", dataset.reviews[:1] if is_p5 else dataset.reviews),
        ("items", dataset.metadata),
    ]
    return [
        Unit(
            kind=kind, format=dataset.format, source=name, path=paths[name], place=places.index(name), reader=reader,
            maps=paths[dataset.reviews[1]] if is_p5 and kind == "reviews" else None,
            pickles=tuple(paths[name] for name in dataset.reviews[2:]) if is_p5 and kind == "reviews" else (),
            params=params, staging=staging[kind], staging_rejects=staging["rejects"],
        )
        for kind, names in kinds
        for name in names
        for reader in range(params.readers_per_file)
    ]  # fmt: skip


def check_accounts(counts: Mapping[str, int], sources: Sequence[str], readers_per_file: int) -> None:
    """Raises TableError unless each line of each file was read once and either kept or rejected."""
    for name in sources:
        seen, lines, kept, rejected = (
            counts.get(f"{name}:{what}", 0) for what in ("seen", "lines", "kept", "rejected")
        )
        if seen != lines * readers_per_file or lines != kept + rejected:
            raise TableError(
                f"{lines} lines of {name} read by {readers_per_file} readers that saw {seen}, {kept} kept, "
                f"{rejected} rejected",
                "lines in = kept + rejected", "use another beam.runner: this one lost or repeated work",
            )  # fmt: skip


def _reject_repeated_items(items: Path, rejects: Path) -> dict[str, int]:
    """Moves all lines of an item but the first to the rejects; returns their number per file.

    The first line is determined by file name, then line number. Keys are processed `_KEYS_AT_ONCE` at a time, by hash.
    """
    files = _parts(items)
    num_rounds = -(-sum(pq.read_metadata(path).num_rows for path in files) // _KEYS_AT_ONCE)
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


def _accounts(
    counts: Mapping[str, int], sources: Sequence[str], repeated: Mapping[str, int]
) -> dict[str, dict[str, int]]:
    accounts: dict[str, dict[str, int]] = {}
    for source in sources:
        prefix = f"{source}:"
        account = {name.removeprefix(prefix): n for name, n in sorted(counts.items()) if name.startswith(prefix)}
        account.pop("seen", None)
        account = {"lines": 0, "kept": 0, "rejected": 0, "rows": 0} | account
        moved = repeated.get(source, 0)
        if moved:
            account |= {
                "kept": account["kept"] - moved,
                "rows": account["rows"] - moved,
                "rejected": account["rejected"] + moved,
                "rejected:duplicate_item": moved,
            }
        accounts[source] = account
    return accounts


def _check_rows(staging: Mapping[str, Path], accounts: Mapping[str, Mapping[str, int]], metadata: set[str]) -> None:
    """Raises TableError unless the staged parts have the number of rows that the workers counted."""
    expected = {"reviews": 0, "items": 0, "rejects": 0}
    for source, account in accounts.items():
        expected["items" if source in metadata else "reviews"] += account["rows"]
        expected["rejects"] += account["rejected"]
    for name, rows in expected.items():
        staged = sum(pq.read_metadata(path).num_rows for path in _parts(staging[name]))
        if staged != rows:
            raise TableError(
                f"{staged} rows of records/{name}, {rows} counted",
                "equal numbers",
                "use another beam.runner: this one lost or repeated work",
            )


def _finish(folders: Mapping[str, Path], staging: Mapping[str, Path], provenance: tables.Provenance) -> int:
    declared = {"reviews": schema.REVIEWS, "items": schema.ITEMS, "rejects": schema.REJECTS}
    for name, table in declared.items():
        _renumber(staging[name], table)
    written = sum(tables.finish_table(folders[name], table, provenance) for name, table in declared.items())
    for source, account in provenance.notes["files"].items():
        reasons = ", ".join(f"{k.removeprefix('rejected:')} {v}" for k, v in account.items() if ":" in k)
        log.info(
            "records: %s: %s lines, %s kept, %s rejected%s",
            source, account["lines"], account["kept"], account["rejected"], f" ({reasons})" if reasons else "",
        )  # fmt: skip
    return written


def _index(part: Path) -> int:
    return int(part.stem.removeprefix("part-"))


def _parts(staging: Path) -> list[Path]:
    return sorted(staging.glob("part-*.parquet"), key=_index)


def _renumber(staging: Path, table: schema.Table) -> None:
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
