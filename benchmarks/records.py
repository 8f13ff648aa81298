"""`records` beside its floor, "inflate and parse each line as JSON": `python -m benchmarks.records 1000000`.

Enters: how many reviews of a made-up 2014 dump, and how many processes. Leaves: a table of wall and CPU seconds and of
peak memory on standard output, each of a process of its own.
Trade-off: the floor keeps nothing of what it parses, which no useful stage could do, and reads the metadata as JSON,
which the dump's Python literals are not; it is a lower bound on the cost, not a baseline.
"""

import argparse
import ast
import gzip
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import orjson

from benchmarks.literals import made_up
from features.runtime import stage
from pipelines import records
from pipelines.parsing import line_blocks
from pipelines.parsing.config import Params

REVIEWS, METADATA, TWIN = "reviews_Bench_5.json.gz", "meta_Bench.json.gz", "meta_as_json.json.gz"
BLOCK = 20_000
SMALL = 1_000


def pool(generator: np.random.Generator, num_words: int) -> str:
    """Running text: words by Zipf's law, with the quotes, entities and double spaces that real reviews have."""
    letters = np.array(list("etaoinshrdlucmfwypvbgkqjxz"))
    lengths = generator.integers(2, 10, 8000)
    words = np.array(["".join(generator.choice(letters[: 6 + 2 * length], length)) for length in lengths])
    weights = 1 / np.arange(10, len(words) + 10)
    drawn = generator.choice(words, num_words, p=weights / weights.sum())
    ends = generator.random(num_words)
    marks = np.select(
        [ends < 0.0012, ends < 0.0060, ends < 0.015, ends < 0.075], ["&#34; ", '" ', ".  ", ". "], default=" "
    )
    return "".join(np.char.add(drawn, marks).tolist())


def review_lines(num_reviews: int, seed: int) -> Iterator[bytes]:
    """Reviews as the 2014 dump writes them, 725 bytes each in the mean, as Musical Instruments has them."""
    generator = np.random.default_rng(seed)
    text = pool(generator, 1_500_000)
    for start in range(0, num_reviews, 100_000):
        size = min(100_000, num_reviews - start)
        users = generator.integers(0, max(num_reviews // 9, 50), size).tolist()
        items = (generator.pareto(1.1, size) * num_reviews / 1000).astype(np.int64) % max(num_reviews // 20, 50)
        lengths = np.minimum(generator.lognormal(5.75, 0.95, size), 8000).astype(np.int64).tolist()
        places = generator.integers(0, len(text) - 10_000, size).tolist()
        days = generator.integers(12_000, 16_000, size).tolist()
        rows = zip(users, items.tolist(), lengths, places, days, strict=True)
        for user, item, length, place, day in rows:
            yield orjson.dumps({
                "reviewerID": f"A{user:013d}", "asin": f"B{item:09d}", "reviewerName": f"Reader {user}",
                "helpful": [user % 3, 3], "reviewText": text[place : place + length],
                "overall": float(1 + day % 5), "summary": text[place : place + 25],
                "unixReviewTime": day * 86_400, "reviewTime": "02 28, 2014",
            })  # fmt: skip


def write_dump(folder: Path, num_reviews: int, seed: int) -> None:
    """The reviews, a tenth as many metadata lines, and the metadata once more as JSON."""
    folder.mkdir(parents=True)
    with gzip.GzipFile(folder / REVIEWS, "wb", 6, mtime=0) as stream:
        for line in review_lines(num_reviews, seed):
            stream.write(line + b"\n")
    with (
        gzip.GzipFile(folder / METADATA, "wb", 6, mtime=0) as own,
        gzip.GzipFile(folder / TWIN, "wb", 6, mtime=0) as twin,
    ):
        for literal in made_up(num_reviews // 10, seed):
            own.write(literal.encode() + b"\n")
            twin.write(orjson.dumps(ast.literal_eval(literal)) + b"\n")


def floor_share(folder: Path, place: int, num_processes: int) -> int:
    """Inflates both files and parses every n-th block of them; returns the lines parsed."""
    num_lines = 0
    for name in (REVIEWS, TWIN):
        for block in line_blocks.blocks(folder / name, BLOCK, 1 << 20):
            if block.number % num_processes == place:
                num_lines += len(block.lines)
                for line in block.lines:
                    orjson.loads(line)
    return num_lines


def floor(root: Path, num_processes: int) -> int:
    """The floor with one process a core, each inflating all and parsing its share; returns the lines parsed."""
    folder = root / "data" / "raw" / "bench"
    if num_processes == 1:
        return floor_share(folder, 0, 1)
    with ProcessPoolExecutor(num_processes, get_context("spawn")) as workers:
        shares = [workers.submit(floor_share, folder, place, num_processes) for place in range(num_processes)]
        return sum(share.result() for share in shares)


def ours(root: Path, num_processes: int) -> int:
    """The stage `records`, in this process or in several of Beam's; returns the rows written."""
    options = [f"--direct_num_workers={num_processes}", "--direct_running_mode=multi_processing"]
    entry = {"format": "amazon2014", "reviews": [REVIEWS], "metadata": [METADATA]}
    beam = {"options": options if num_processes > 1 else []}
    context = stage.Context(dataset="bench", root=root, seed=1, shared={"datasets": entry, "beam": beam})
    return records.run(Params(readers_per_file=num_processes, lines_per_block=BLOCK), context)


@dataclass(frozen=True)
class Cost:
    """What a process and its children took."""

    seconds: float
    cpu_seconds: float
    megabytes: float


def cost(what: str, root: Path, num_processes: int) -> Cost:
    """Runs one measurement as a process of its own."""
    command = [sys.executable, "-m", "benchmarks.records", "--measure", what, "--root", str(root)]
    environment = os.environ | {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
    with tempfile.TemporaryFile() as told:
        started = time.perf_counter()
        process = subprocess.Popen([*command, "--processes", str(num_processes)], env=environment, stderr=told)
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            told.seek(0)
            raise SystemExit(told.read().decode(errors="replace"))
    return Cost(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def compare(num_reviews: int, processes: int, seed: int, scratch: Path | None) -> None:
    """Prints what a whole dump costs beyond a small one, which is starting and little else."""
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        small, whole = Path(folder) / "small", Path(folder) / "whole"
        for root, size in ((small, SMALL), (whole, num_reviews)):
            write_dump(root / "data" / "raw" / "bench", size, seed)
        sizes = [(whole / "data" / "raw" / "bench" / name).stat().st_size / 1e6 for name in (REVIEWS, METADATA)]
        print(
            f"{num_reviews:,} reviews, {num_reviews // 10:,} metadata lines: {sizes[0]:,.0f} + {sizes[1]:,.0f} MB gzip"
        )
        print(
            f"{'what':<9}{'processes':>10}{'start s':>9}{'seconds':>9}{'CPU s':>8}{'CPU us/line':>13}{'peak MB':>9}"
            f"{'start':>7}"
        )
        lines = (num_reviews - SMALL) * 1.1
        for num_processes in sorted({1, processes}):
            costs = {}
            for what in ("floor", "records"):
                start, end = cost(what, small, num_processes), cost(what, whole, num_processes)
                own = Cost(end.seconds - start.seconds, end.cpu_seconds - start.cpu_seconds, end.megabytes)
                costs[what] = own
                print(
                    f"{what:<9}{num_processes:>10}{start.seconds:>9.1f}{own.seconds:>9.1f}{own.cpu_seconds:>8.1f}"
                    f"{own.cpu_seconds / lines * 1e6:>13.2f}{own.megabytes:>9,.0f}{start.megabytes:>7,.0f}", flush=True,
                )  # fmt: skip
            wall = costs["records"].seconds / costs["floor"].seconds
            cpu = costs["records"].cpu_seconds / costs["floor"].cpu_seconds
            print(f"records / floor with {num_processes}: {wall:.2f} in seconds, {cpu:.2f} in CPU-seconds", flush=True)


def main() -> int:
    """Compares `records` with its floor."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("num_reviews", type=int, nargs="?", default=200_000)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=2022)
    parser.add_argument("--scratch", type=Path, help="folder for the made-up dump and the tables")
    parser.add_argument("--measure", choices=("floor", "records"), help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is None:
        compare(arguments.num_reviews, arguments.processes, arguments.seed, arguments.scratch)
    elif arguments.measure == "floor":
        floor(arguments.root, arguments.processes)
    else:
        ours(arguments.root, arguments.processes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
