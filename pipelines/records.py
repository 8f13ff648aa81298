"""Stage `records`: parses a dump of reviews and metadata into clean tables and accounts for every line.

Reads the files of `data/raw/<dataset>/` in one of four formats. Writes `records/reviews`, `records/items` and
`records/rejects`; for each file, lines read = lines kept + lines rejected.
Trade-off: gzip does not support random access, so each of `readers_per_file` workers decompresses the whole file and
parses every n-th block. Parts are named by block, so the tables do not depend on the number of workers. Memory is
bounded by two blocks of at most 64 MB of lines each, independent of the size of the dump.
"""

import dataclasses
import shutil
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from features import schema
from features.errors import InputError
from features.runtime import datasets, stage
from features.runtime.params import build
from features.store import tables
from pipelines.beam.runner import BeamParams, run_units
from pipelines.parsing import byte_pieces, line_accounts, p5, parse_block
from pipelines.parsing.config import Params

TABLES = {"reviews": schema.REVIEWS, "items": schema.ITEMS, "rejects": schema.REJECTS}

EXECUTION = ("readers_per_file", "max_decompression_ratio")  # parameters that do not change a row
SECTIONS = ("datasets", "beam")
READS = ("data/raw/${dataset}",)
WRITES = (
    "data/${dataset}/records/reviews",
    "data/${dataset}/records/items",
    "data/${dataset}/records/rejects",
)


def run(params: Params, context: stage.Context) -> int:
    """Parse, clean and validate the lines of a dump; store rejected lines with their reason."""
    from pipelines.parsing import file_verdicts, filler_texts, staged_parts

    context = dataclasses.replace(context, root=context.root.resolve())  # workers may run in another folder
    dataset = datasets.dataset(context.shared, context.dataset)
    paths = find_files(context, dataset)
    beam = build(BeamParams, context.shared["beam"], where="beam")
    beam.check()
    staging = {name: tables.begin_table(context.table(table.name)) for name, table in TABLES.items()}
    try:
        units = parse_block.plan_units(params, dataset, paths, staging)
        counts, digests = parse(units, paths, beam, staging["rejects"] / "counts.json")
        sources = sorted({unit.source for unit in units})
        line_accounts.check_counts(counts, sources, params.readers_per_file)
        duplicates = staged_parts.reject_duplicate_items(staging["items"], staging["rejects"])
        accounts = line_accounts.accounts_of(counts, sources, duplicates)
        staged = {name: staged_parts.count_rows(folder) for name, folder in staging.items()}
        line_accounts.check_rows(staged, accounts, dataset.metadata)
        line_accounts.log_accounts(accounts)
        dump = file_verdicts.Dump(
            name=context.dataset, dataset=dataset, params=params, paths=paths, accounts=accounts, staging=staging
        )
        warnings = file_verdicts.judge(dump)
        fillers = filler_texts.drop_fillers(staging, params.placeholder_texts, params.max_text_share)
        for name, table in TABLES.items():
            staged_parts.renumber(staging[name], table)
        shown = {name: value for name, value in dataclasses.asdict(params).items() if name not in EXECUTION}
        notes: dict[str, object] = {"files": accounts, "warnings": warnings, "fillers": fillers}
        notes |= _order(dataset, paths, staging["reviews"])
        provenance = tables.Provenance(stage="records", params=shown, inputs=digests, notes=notes)
        return sum(tables.finish_table(context.table(table.name), table, provenance) for table in TABLES.values())
    finally:  # nothing is left to remove after a success
        for folder in staging.values():
            shutil.rmtree(folder, ignore_errors=True)


def find_files(context: stage.Context, dataset: datasets.Dataset) -> dict[str, Path]:
    """The path of each file of the dump by name.

    Raises:
        InputError: A file is missing or not in the format that its name implies.
    """
    paths = {name: _found(context, name) for name in dataset.files}
    if dataset.format == "p5":
        p5.bundle(paths[dataset.reviews[1]], tuple(paths[name] for name in dataset.reviews[2:]))
    return paths


def _order(dataset: datasets.Dataset, paths: Mapping[str, Path], reviews: Path) -> dict[str, object]:
    """The note `order`: how the order of a p5 folder agrees with the times of its reviews."""
    from pipelines.parsing import sequence_order

    if dataset.format != "p5" or len(dataset.reviews) < 3:
        return {}
    bundle = p5.bundle(paths[dataset.reviews[1]], tuple(paths[name] for name in dataset.reviews[2:]))
    times = {pair: values[-1] for pair, values in bundle.reviews.items()}
    return {"order": sequence_order.compare(sorted(reviews.glob("part-*.parquet")), times)}


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
    if not byte_pieces.check_gzip(path):
        line_accounts.log.warning("records: %s is text, not gzip: it is read as it is", path)
    return path


def parse(
    units: Sequence[parse_block.Unit], paths: Mapping[str, Path], beam: BeamParams, ledger: Path
) -> tuple[dict[str, int], dict[str, str]]:
    """Parses all units and hashes the files in the meantime; returns the units' counts and the digest of each file.

    Raises:
        TableError: The runner lost or repeated work.
    """
    with ThreadPoolExecutor(1) as beside:
        hashed = beside.map(tables.input_digest, paths.values())
        counts = run_units("records", units, parse_block.work, beam, ledger)
        return counts, dict(zip(paths, hashed, strict=True))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage from the command line."""
    return stage.main("records", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
