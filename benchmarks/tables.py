"""CPU-seconds of the checks when a table is written and read: `python -m benchmarks.tables 1000000`.

Enters: how many interactions. Leaves: a table on standard output; the last line only where dataframely is installed.
Trade-off: one made-up table of six columns, whose key columns are sorted as those of every table are.
"""

import argparse
import hashlib
import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from features import schema
from features.store import tables, validation


def interactions(num_rows: int) -> pa.Table:
    """Eight interactions a user, in key order."""
    generator, row = np.random.default_rng(0), np.arange(num_rows)
    values = {
        "user_id": row // 8 + 1, "position": row % 8 + 1, "item_id": generator.integers(1, 100_000, num_rows),
        "rating": generator.integers(1, 6, num_rows), "timestamp": generator.integers(1, 10**9, num_rows),
        "split": np.array(schema.SPLITS)[np.clip(row % 8 - 5, 0, 2)],
    }  # fmt: skip
    return pa.table(
        {f.name: pa.array(values[f.name]).cast(f.type) for f in schema.INTERACTIONS.arrow},
        schema=schema.INTERACTIONS.arrow,
    )


def dataframely_check(data: pa.Table) -> Callable[[], object]:
    """The same rules by dataframely on Polars (it has no rule for the order of the rows)."""
    import dataframely as dy
    import polars as pl

    integer, number = {"nullable": False, "min": 1}, {"nullable": True, "min": 1.0, "max": 5.0, "allow_nan": False}
    columns = {
        "user_id": dy.Int32(**integer, primary_key=True), "position": dy.Int32(**integer, primary_key=True),
        "item_id": dy.Int32(**integer), "rating": dy.Float32(**number), "timestamp": dy.Int64(nullable=True),
        "split": dy.String(nullable=False, check=lambda column: column.is_in(schema.SPLITS)),
    }  # fmt: skip
    declared: Any = type("Interactions", (dy.Schema,), columns)
    frame = pl.from_arrow(data)
    return lambda: declared.validate(frame)


def cpu_seconds(call: Callable[[], object], repeats: int = 3) -> float:
    """The least CPU-seconds of a few calls."""
    found = []
    for _ in range(repeats):
        started = time.process_time()
        call()
        found.append(time.process_time() - started)
    return min(found)


def main() -> None:
    """Prints what the checks cost beside the reading and writing that they guard."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("num_rows", type=int, nargs="?", default=1_000_000)
    data, table = interactions(parser.parse_args().num_rows), schema.INTERACTIONS
    provenance = tables.Provenance(stage="benchmark", params={})
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root) / "interactions"
        measured = {"write_table, whole": cpu_seconds(lambda: tables.write_table(folder, table, data, provenance))}
        [part] = tables.checked_parts(folder, table)
        num_bytes = part.stat().st_size
        measured |= {
            "read_table, whole": cpu_seconds(lambda: tables.read_table(folder, table)),
            "of it: pyarrow alone": cpu_seconds(lambda: pq.read_table(part)),
            "of it: SHA-256 of the parts": cpu_seconds(lambda: hashlib.sha256(part.read_bytes())),
        }
    for column in table.columns:
        name = f"rules of {column.name}"
        measured[name] = cpu_seconds(lambda column=column: validation.check_column(data, table, column))  # type: ignore[misc]
    measured["order and uniqueness of the key"] = cpu_seconds(lambda: validation.check_order(data, table))
    measured["all rules"] = cpu_seconds(lambda: validation.check_rows(data, table))
    if importlib.util.find_spec("dataframely"):
        measured["the rules by dataframely, order left out"] = cpu_seconds(dataframely_check(data))
    print(f"{data.num_rows:,} rows, {num_bytes:,} bytes on disk")
    for what, seconds in measured.items():
        print(f"{what:<42}{seconds * 1000:>9.1f} ms")


if __name__ == "__main__":
    main()
