"""What each format costs in `records`: `python -m benchmarks.formats 500000`.

Enters: the number of records of a made-up dump. Leaves: a table of lines per CPU-second and of peak memory on standard
output, each of a process of its own.
Trade-off: the start of Python and Beam is taken off by a run of a tenth of the records, so lines per CPU-second are
those of a long file; memory includes the libraries.
"""

import argparse
import csv
import gzip
import io
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import measured
from benchmarks.records import review_lines
from features.runtime import stage
from pipelines import records
from pipelines.parsing.config import Params

Rows = Callable[[int], Iterator[bytes]]


def ratings(size: int) -> Iterator[tuple[str, str, float, int]]:
    """User, item, rating and time of `size` ratings."""
    generator = np.random.default_rng(2022)
    for start in range(0, size, 100_000):
        count = min(100_000, size - start)
        columns = [generator.integers(0, high, count).tolist() for high in (size // 9 + 9, size // 20 + 9, 5, 10**8)]
        for user, item, stars, when in zip(*columns, strict=True):
            yield f"A{user:013d}", f"B{item:09d}", float(stars + 1), 1_300_000_000 + when


def rating_lines(size: int, header: str, delimiter: str) -> Iterator[bytes]:
    """Lines of a table of ratings."""
    if header:
        yield header.encode()
    for row in ratings(size):
        yield delimiter.join(map(str, row)).encode()


def sequence_lines(size: int) -> Iterator[bytes]:
    """Lines of ten words: a user and nine items, in numbers."""
    generator = np.random.default_rng(2022)
    for user in range(size):
        yield b"%d %s" % (user + 1, b" ".join(b"%d" % n for n in generator.integers(1, size // 9 + 9, 9)))


def item_lines(size: int) -> Iterator[bytes]:
    """A table of items as MovieLens writes it."""
    yield b"movieId,title,genres"
    for number in range(size):
        yield b'%d,"Kettle, the %dth (1995)",Comedy|Drama|Romance' % (number, number)


def array_lines(size: int) -> Iterator[bytes]:
    """Reviews as one JSON array, each over many lines."""
    for number, line in enumerate(review_lines(size, 2022)):
        yield (b"," if number else b"[") + orjson.dumps(orjson.loads(line), option=orjson.OPT_INDENT_2)
    yield b"]"


def export_lines(size: int) -> Iterator[bytes]:
    """Reviews as a CSV export."""
    for number, line in enumerate(review_lines(size, 2022)):
        review: dict[str, Any] = orjson.loads(line)
        cells = io.StringIO()
        writer = csv.writer(cells, lineterminator="")
        if not number:
            yield ",".join(review).encode()
        writer.writerow(review.values())
        yield cells.getvalue().encode()


def write(path: Path, lines: Iterator[bytes]) -> None:
    """Writes the lines, compressed as the name says."""
    if path.suffix == ".zip":
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
            archive.open("x.json", "w", force_zip64=True) as member,
        ):
            member.writelines(line + b"\n" for line in lines)
    elif path.suffix == ".gz":
        with gzip.GzipFile(path, "wb", 6, mtime=0) as stream:
            stream.writelines(line + b"\n" for line in lines)
    elif path.suffix == ".parquet":
        write_parquet(path, lines)
    else:
        with path.open("wb") as plain:
            plain.writelines(line + b"\n" for line in lines)


def write_parquet(path: Path, lines: Iterator[bytes]) -> None:
    """Writes JSON lines as a Parquet file."""
    writer, batch = None, []
    for line in lines:
        batch.append(orjson.loads(line))
        if len(batch) == 50_000:
            table = pa.Table.from_pylist(batch)
            writer = writer or pq.ParquetWriter(path, table.schema)
            writer.write_table(table)
            batch = []
    if batch:
        table = pa.Table.from_pylist(batch)
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
    if writer:
        writer.close()


def json_ratings(size: int) -> Iterator[bytes]:
    """Ratings as JSON lines, for the Parquet file."""
    for row in ratings(size):
        yield orjson.dumps(dict(zip(("user_id", "parent_asin", "rating", "timestamp"), row, strict=True)))


INTER = "user_id:token\titem_id:token\trating:float\ttimestamp:float"
CASES: dict[str, tuple[str, str, Rows]] = {
    "amazon2014, JSON lines, gzip": ("amazon2014", "r.json.gz", lambda size: review_lines(size, 2022)),
    "amazon2014, JSON lines in zip": ("amazon2014", "r.json.zip", lambda size: review_lines(size, 2022)),
    "amazon2014, JSON array, gzip": ("amazon2014", "r.array.gz", array_lines),
    "amazon2014, CSV export, gzip": ("amazon2014", "r.csv.gz", export_lines),
    "amazon2014, Parquet": ("amazon2014", "r.parquet", lambda size: review_lines(size, 2022)),
    "ratings, CSV without header": ("ratings", "r.csv", lambda size: rating_lines(size, "", ",")),
    "ratings, CSV with header, gzip": ("ratings", "r.csv.gz", lambda n: rating_lines(n, "user,item,rating,time", ",")),
    "ratings, Parquet": ("ratings", "r.parquet", json_ratings),
    "recbole, .inter": ("recbole", "x.inter", lambda size: rating_lines(size, INTER, "\t")),
    "sequences, ten words a line": ("sequences", "x.txt", sequence_lines),
    "ratings, items in CSV": ("ratings", "movies.csv", item_lines),
}


def ours(root: Path, form: str, name: str) -> int:
    """The stage `records` on one file; returns the rows written."""
    is_items = name == "movies.csv"
    files = {"reviews": ["one.csv"], "metadata": [name]} if is_items else {"reviews": [name], "metadata": []}
    context = stage.Context(
        dataset="bench", root=root, seed=1, shared={"datasets": {"format": form} | files, "beam": {}}
    )
    return records.run(Params(), context)


def cost(root: Path, case: str, size: int) -> measured.Cost:
    """Writes a file of `size` records and reads it in a process of its own."""
    _, name, lines = CASES[case]
    folder = root / "data" / "raw" / "bench"
    folder.mkdir(parents=True)
    write(folder / name, lines(size))
    (folder / "one.csv").write_bytes(b"U1,I1,4,1393545600\n")
    command = [sys.executable, "-m", "benchmarks.formats", "--measure", case, "--root", str(root)]
    environment = os.environ | {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as told:
        started = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stderr=told)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            told.seek(0)
            raise SystemExit(told.read().decode(errors="replace"))
    seconds, cpu = time.perf_counter() - started, usage.ru_utime + usage.ru_stime
    return measured.Cost(seconds=seconds, cpu_seconds=cpu, peak_gb=usage.ru_maxrss / 2**20)


def compare(size: int, scratch: Path | None, chosen: Sequence[str]) -> None:
    """Prints the table."""
    print("| format | lines per CPU-second | peak memory |\n|---|---|---|")
    for case in chosen:
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            start, end = cost(Path(folder) / "a", case, size // 10), cost(Path(folder) / "b", case, size)
        rate = (size - size // 10) / (end.cpu_seconds - start.cpu_seconds)
        print(f"| {case} | {rate:,.0f} | {end.peak_gb * 1024:,.0f} MB |", flush=True)


def main() -> int:
    """Measures `records` for each format."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("size", type=int, nargs="?", default=200_000)
    parser.add_argument("--scratch", type=Path, help="folder for the made-up dumps and the tables")
    parser.add_argument("--only", choices=CASES, action="append", help="formats to measure; all without it")
    parser.add_argument("--measure", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is None:
        compare(arguments.size, arguments.scratch, arguments.only or list(CASES))
    else:
        form, name, _ = CASES[arguments.measure]
        ours(arguments.root, form, name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
