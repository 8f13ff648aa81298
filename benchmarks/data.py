"""Rows a second through `records` and `sequences` on made-up reviews: `python -m benchmarks.data 200000`.

Enters: how many reviews. Leaves: a table on standard output.
Trade-off: drawn users and items follow a Zipf law, so the k-core takes the rounds that real dumps take, but the texts
are one sentence long; real lines are about twice as long.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from features import stage
from pipelines import candidates, records, sample, sequences

REVIEWS, METADATA = "reviews_Bench_5.json.gz", "meta_Bench.json.gz"


def write_dump(folder: Path, num_reviews: int) -> None:
    """A dump of `num_reviews` reviews in the 2014 format, with a user for nine and an item for twenty of them."""
    generator = np.random.default_rng(0)
    num_users, num_items = max(num_reviews // 9, 50), max(num_reviews // 20, 50)
    users = np.minimum(generator.zipf(1.3, num_reviews), 10**6) * 7919 % num_users
    users = np.where(generator.random(num_reviews) < 0.8, generator.integers(0, num_users, num_reviews), users)
    items = (generator.pareto(1.1, num_reviews) * num_items / 50).astype(np.int64) % num_items
    days = generator.integers(12_000, 16_000, num_reviews)
    lines = [
        json.dumps({
            "reviewerID": f"A{user:013d}", "asin": f"B{item:09d}", "reviewerName": f"Reader {user}", "helpful": [0, 1],
            "reviewText": "The handle is sturdy &amp; the lid closes well, so I would buy it again.", "overall": 4.0,
            "summary": "Good value", "unixReviewTime": int(day) * 86_400, "reviewTime": "02 28, 2014",
        }).encode()
        for user, item, day in zip(users.tolist(), items.tolist(), days.tolist(), strict=True)
    ]  # fmt: skip
    metadata = [
        repr({
            "asin": f"B{item:09d}", "title": "Kettle with Lid &amp; Spout", "price": 19.99, "brand": "Kelotav",
            "related": {"also_viewed": [f"B{other:09d}" for other in range(item, item + 40)]},
            "categories": [["Home Goods", "Kitchen", "Kettles"]], "description": 'The "new" kettle\'s spout.',
        }).encode()
        for item in range(num_items)
    ]  # fmt: skip
    folder.mkdir(parents=True)
    sample.write_gzip(folder / REVIEWS, lines)
    sample.write_gzip(folder / METADATA, metadata)


def main() -> None:
    """Prints seconds and rows a second of each stage."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("num_reviews", type=int, nargs="?", default=100_000)
    num_reviews = parser.parse_args().num_reviews
    with tempfile.TemporaryDirectory() as root:
        entry = {"format": "amazon2014", "reviews": [REVIEWS], "metadata": [METADATA]}
        context = stage.Context(dataset="bench", root=Path(root), seed=1, shared={"datasets": entry, "beam": {}})
        write_dump(context.raw, num_reviews)
        stages: dict[str, Callable[[], int]] = {
            "records": lambda: records.run(records.Params(), context),
            "sequences": lambda: sequences.run(sequences.Params(), context),
            "candidates": lambda: candidates.run(candidates.Params(), context),
        }
        print(f"{'stage':<12}{'rows out':>12}{'seconds':>10}{'reviews/s':>12}")
        for name, run in stages.items():
            started = time.perf_counter()
            rows = run()
            seconds = time.perf_counter() - started
            print(f"{name:<12}{rows:>12,}{seconds:>10.2f}{num_reviews / seconds:>12,.0f}")


if __name__ == "__main__":
    main()
