"""Clean reviews as each user's purchases in time order, numbered and split, with a fixed rule for every doubt.

Enters: `records/reviews` and `records/items`. Leaves: `sequences/users`, `sequences/items`, `sequences/interactions`.
Trade-off: keys are turned into integers first and users lie in buckets, so memory follows the number of users and
items and the size of a bucket; the interactions wait on disk, 36 bytes each.
"""

import sys
from collections.abc import Sequence

from features.runtime import stage
from pipelines.sequencing.config import Params

SECTIONS = ("datasets", "beam")
READS = ("data/${dataset}/records/reviews", "data/${dataset}/records/items")
WRITES = (
    "data/${dataset}/sequences/users",
    "data/${dataset}/sequences/items",
    "data/${dataset}/sequences/interactions",
)


def run(params: Params, context: stage.Context) -> int:
    """Dedupe, keep the k-core, order by time, number and split the interactions."""
    from pipelines.sequencing import write_sequences

    return write_sequences.write_sequences(params, context)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage from the command line."""
    return stage.main("sequences", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
