"""The published way from a dump to sequences and negatives, in our own words: the baseline of `benchmarks.data`.

Enters: the first lines of a dump in the 2014 format. Leaves: `sequential_data.txt`, `datamaps.json`,
`negative_samples.txt` and `attributes.json` in a folder; the same information that `records`, `sequences` and
`candidates` make, less texts, rejects and the second list of negatives, which are not counted against it.

One Python loop over the lines, each evaluated as a literal (`ast.literal_eval`; the published code runs it as code);
dictionaries and lists from then on. Two of its steps cost more a row the longer the dump is: whether a metadata line
is of a numbered item is asked of a list, and every user's negatives are drawn by permuting the list of all items. So
a slice flatters it, and five million reviews would take it hours. With `every` = n those two steps, and they alone,
are done for every n-th line and user among all the others; `left_out` tells what the rest would take at that pace.
"""

import argparse
import ast
import gzip
import json
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path

import numpy as np

from benchmarks.dumps import METADATA, REVIEWS

Histories = dict[str, list[str]]


def evaluated(path: Path, most: int) -> Iterator[dict[str, object]]:
    """The objects of the first `most` lines."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in islice(lines, most):
            yield ast.literal_eval(line)


def histories(reviews: Iterator[dict[str, object]]) -> Histories:
    """Each user's items by time, users in the order of the file."""
    bought: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for review in reviews:
        if float(str(review["overall"])) > 0:
            bought[str(review["reviewerID"])].append((str(review["asin"]), int(str(review["unixReviewTime"]))))
    return {user: [item for item, _ in sorted(pairs, key=lambda pair: pair[1])] for user, pairs in bought.items()}


def core(bought: Histories, k: int) -> Histories:
    """Users and rare items removed in turn until all have `k`."""
    while True:
        counts: dict[str, int] = defaultdict(int)
        for items in bought.values():
            for item in items:
                counts[item] += 1
        rare = [user for user, items in bought.items() if len(items) < k]
        if not rare and all(count >= k for count in counts.values()):
            return bought
        for user in rare:
            del bought[user]
        for user, items in bought.items():
            bought[user] = [item for item in items if counts[item] >= k]


def numbered(bought: Histories) -> tuple[dict[str, list[int]], dict[str, int]]:
    """Histories as item numbers, given in order of appearance, and the numbers."""
    numbers: dict[str, int] = {}
    sequences = {}
    for user, items in bought.items():
        for item in items:
            if item not in numbers:
                numbers[item] = len(numbers) + 1
        sequences[user] = [numbers[item] for item in items]
    return sequences, numbers


class Sampled:
    """Of a step that is done for every n-th row: whose turn it is, and the CPU-seconds of the others."""

    def __init__(self, every: int) -> None:
        self.every, self.rows, self.done, self.took = every, 0, 0, 0.0

    def __call__(self) -> bool:
        """Whether the next row is one to do."""
        self.rows += 1
        return (self.rows - 1) % self.every == self.every // 2

    @contextmanager
    def row(self) -> Iterator[None]:
        """Measures one row that is done."""
        started = time.process_time()
        yield
        self.took += time.process_time() - started
        self.done += 1

    @property
    def left_out(self) -> float:
        """What the other rows would have taken."""
        return self.took / max(self.done, 1) * (self.rows - self.done)


def attributes(
    metadata: Iterator[dict[str, object]], numbers: dict[str, int], sampled: Sampled
) -> dict[str, list[str]]:
    """Brand and categories of the numbered items; a line is looked up in the list of them."""
    wanted = list(numbers)
    found: dict[str, list[str]] = {}
    for line in metadata:
        if not sampled():
            continue
        with sampled.row():
            is_wanted = line["asin"] in wanted
        if is_wanted:
            paths = line.get("categories") or []
            assert isinstance(paths, list)
            found[str(line["asin"])] = [str(line.get("brand")), *(name for path in paths for name in path[1:])]
    return found


def negatives(sequences: dict[str, list[int]], num_items: int, count: int, sampled: Sampled) -> dict[str, list[int]]:
    """`count` items of each user outside their own: draw from the list of all, drop own, until there are enough."""
    generator = np.random.RandomState(2022)
    all_items = list(range(1, num_items + 1))
    drawn = {}
    for user, own in sequences.items():
        if not sampled():
            continue
        found: list[int] = []
        with sampled.row():
            while len(found) < count:
                sample = generator.choice(all_items, count, replace=False).tolist()
                found.extend(item for item in sample if item not in own and item not in found)
        drawn[user] = found[:count]
    return drawn


def run(raw: Path, out: Path, num_reviews: int, num_items: int, every: int = 1) -> dict[str, int | float]:
    """Does all of it; returns how many users, items and interactions are left, and CPU-seconds `left_out`."""
    lookups, draws = Sampled(every), Sampled(every)
    kept = core(histories(evaluated(raw / REVIEWS, num_reviews)), 5)
    sequences, numbers = numbered(kept)
    described = attributes(evaluated(raw / METADATA, num_items), numbers, lookups)
    others = negatives(sequences, len(numbers), 99, draws)
    out.mkdir(parents=True, exist_ok=True)
    for name, lists in (("sequential_data.txt", sequences), ("negative_samples.txt", others)):
        text = "".join(f"{user} {' '.join(map(str, items))}\n" for user, items in lists.items())
        (out / name).write_text(text, encoding="utf-8")
    (out / "datamaps.json").write_text(json.dumps(numbers), encoding="utf-8")
    (out / "attributes.json").write_text(json.dumps(described), encoding="utf-8")
    interactions = sum(map(len, sequences.values()))
    return {
        "users": len(sequences), "items": len(numbers), "interactions": interactions,
        "lookups": lookups.took, "draws": draws.took, "left_out": lookups.left_out + draws.left_out,
    }  # fmt: skip


def main() -> None:
    """Runs it on a slice of a dump and prints what is left, as JSON."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("raw", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("num_reviews", type=int)
    parser.add_argument("num_items", type=int)
    parser.add_argument("--every", type=int, default=1)
    asked = parser.parse_args()
    print(json.dumps(run(asked.raw, asked.out, asked.num_reviews, asked.num_items, asked.every)))


if __name__ == "__main__":
    main()
