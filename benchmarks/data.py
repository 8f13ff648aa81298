"""Cost from a dump to candidates, beside the reference implementation: `python -m benchmarks.data lines 5000000`.

Enters: how many reviews. Leaves: tables on standard output (docs/benchmarks/data-stages.md keeps them).
`lines N`   makes a dump of N reviews and N / 10 metadata lines, runs `records`, `sequences`, `candidates` on it; on its
            first lines (`--slice`, of one size or several) runs the same and the published way, of which the two
            steps that cost more a row the longer the dump is are done for every n-th row only (`--every`).
`tables N`  begins at the tables that `records` would make, without texts: for more rows than the disk has room for.
Each stage is a process of its own, started as `dvc repro` would start it; CPU-seconds and memory are those of all its
processes. Seconds depend on what else the machine does, so ratios of CPU-seconds stand beside them.
"""

import argparse
import gzip
import json
import shutil
import tempfile
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import yaml

from benchmarks import dumps
from benchmarks.measured import Cost, measure, python
from features.runtime import stage
from features.runtime.params import load_yaml

REPOSITORY = Path(__file__).parents[1]
STAGES = ("records", "sequences", "candidates")


def prepared(root: Path, processes: int, engine: str) -> stage.Context:
    """A workspace whose params.yaml is the repository's but for the dataset, the engine and the processes."""
    params = load_yaml(REPOSITORY / "params.yaml")
    entry = {"format": "amazon2014", "reviews": [dumps.REVIEWS], "metadata": [dumps.METADATA], "photos": None}
    params |= {"dataset": "bench", "datasets": {"bench": entry}}
    params["sequences"]["engine"] = engine
    params["records"]["readers_per_file"] = processes
    if processes > 1:
        workers = [f"--direct_num_workers={processes}", "--direct_running_mode=multi_processing"]
        params["beam"] = {"runner": "FnApiRunner", "options": workers}
    root.mkdir(parents=True, exist_ok=True)
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    return stage.Context(dataset="bench", root=root, seed=params["seed"], shared={})


def line(context: stage.Context, stages: Iterable[str], num_reviews: int) -> Cost:
    """Runs the stages in a workspace; prints what each costs and gives what all cost."""
    costs = []
    for name in stages:
        costs.append(measure(python("-m", f"pipelines.{name}"), context.root, context.root / f"{name}.log"))
        show(name, costs[-1], num_reviews)
    whole = Cost(
        seconds=sum(cost.seconds for cost in costs),
        cpu_seconds=sum(cost.cpu_seconds for cost in costs),
        peak_gb=max(cost.peak_gb for cost in costs),
    )
    show("all", whole, num_reviews)
    return whole


def show(name: str, cost: Cost, num_reviews: int) -> None:
    """Prints one row of the table."""
    print(
        f"{name:<18}{num_reviews:>12,}{cost.seconds:>10.1f}{cost.cpu_seconds:>10.1f}{cost.peak_gb:>9.2f}"
        f"{num_reviews / cost.seconds:>12,.0f}{num_reviews / cost.cpu_seconds:>14,.0f}",
        flush=True,
    )


def cut(raw: Path, out: Path, num_reviews: int) -> None:
    """The first lines of both files of a dump."""
    out.mkdir(parents=True)
    for name, most in ((dumps.REVIEWS, num_reviews), (dumps.METADATA, num_reviews // 10)):
        with gzip.open(raw / name) as lines, gzip.open(out / name, "wb", compresslevel=1) as target:
            target.writelines(islice(lines, most))


def sliced(context: stage.Context, root: Path, num_reviews: int, processes: int) -> tuple[stage.Context, Cost]:
    """A workspace with the first lines of a dump, and what all stages cost there."""
    folder = root / f"slice-{num_reviews}"
    shutil.rmtree(folder, ignore_errors=True)
    small = prepared(folder, processes, "polars")
    cut(context.raw, small.raw, num_reviews)
    return small, line(small, STAGES, num_reviews)


def beside_the_published_way(context: stage.Context, ours: Cost, num_reviews: int, every: int) -> None:
    """Runs the published way on the dump of a workspace and prints the ratios."""
    log_path = context.root / "published.log"
    arguments = [str(context.raw), str(context.root / "published"), str(num_reviews), str(num_reviews // 10)]
    command = python("-m", "benchmarks.published_way", *arguments, "--every", str(every))
    theirs = measure(command, REPOSITORY, log_path)
    log = log_path.read_text()
    show("published way", theirs, num_reviews)
    print(log.strip())
    if (left_out := json.loads(log)["left_out"]) > 0:
        seconds, cpu = theirs.seconds + left_out, theirs.cpu_seconds + left_out
        theirs = Cost(seconds=seconds, cpu_seconds=cpu, peak_gb=theirs.peak_gb)
        show("and left out", theirs, num_reviews)
    print(
        f"on these lines: {theirs.seconds / ours.seconds:.1f} times as fast, "
        f"{theirs.cpu_seconds / ours.cpu_seconds:.1f} times by CPU-seconds",
        flush=True,
    )


def main() -> None:
    """Prints seconds, CPU-seconds, peak memory and reviews a second of each stage."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("begin", choices=("lines", "tables"))
    parser.add_argument("num_reviews", type=int, nargs="?", default=100_000)
    parser.add_argument("--slice", type=int, nargs="*", default=[], help="how many first reviews both ways get")
    parser.add_argument("--every", type=int, default=1, help="published way: its slowest steps for every n-th row only")
    parser.add_argument("--processes", type=int, default=2, help="of `records` (default: %(default)s)")
    parser.add_argument("--engine", choices=("polars", "beam"), default="polars", help="of `sequences`")
    parser.add_argument("--root", type=Path, help="workspace; a dump found there is used, and stays")
    asked = parser.parse_args()
    root = asked.root or Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        context = prepared(root, asked.processes, asked.engine)
        size = dumps.Size(num_reviews=asked.num_reviews, num_items=max(asked.num_reviews // 10, 1))
        print(
            f"{'stage':<18}{'reviews':>12}{'seconds':>10}{'CPU-s':>10}{'GB':>9}{'reviews/s':>12}{'reviews/CPU-s':>14}"
        )
        if asked.begin == "tables":
            dumps.write_records(context, size)
        elif not (context.raw / dumps.METADATA).exists():
            dumps.write_dump(context.raw, size)
        stages = STAGES[1:] if asked.begin == "tables" else STAGES
        whole = (context, line(context, stages, asked.num_reviews))
        for size in asked.slice:
            is_whole = size == asked.num_reviews
            own, cost = whole if is_whole else sliced(context, root, size, asked.processes)
            beside_the_published_way(own, cost, size, asked.every)
    finally:
        if asked.root is None:
            shutil.rmtree(root)


if __name__ == "__main__":
    main()
