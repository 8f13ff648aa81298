"""Stage `sequences`: turns clean reviews into numbered, split purchase histories in time order.

Reads `records/reviews` and `records/items`. Writes `sequences/users`, `sequences/items` and `sequences/interactions`.
Trade-off: keys are hashed to integers and users are bucketed, so memory grows with the number of users and items and
the bucket size. Interactions are spilled to disk, 36 bytes each.
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
    """Deduplicate, filter to the k-core, order by time, number and split the interactions."""
    from pipelines.sequencing import write_sequences

    return write_sequences.write_sequences(params, context)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage from the command line."""
    return stage.main("sequences", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
