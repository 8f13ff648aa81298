"""A dump of reviews and metadata as clean tables, with every line accounted for.

Enters: the files of `data/raw/<dataset>/` in one of four formats. Leaves: `records/reviews`, `records/items` and
`records/rejects`; lines in = lines kept + lines rejected, for each file.
Trade-off: a gzip file cannot be entered in the middle, so each of `num_strides` workers inflates it whole and parses
every n-th block; parts are named by block, so the tables do not depend on the number of workers. Memory is that of a
block or two, at most 64 MB of lines each, whatever the size of the dump.
"""

import sys
from collections.abc import Sequence

from features.runtime import stage
from pipelines.parsing.config import Params

SECTIONS = ("datasets", "beam")
READS = ("data/raw/${dataset}",)
WRITES = (
    "data/${dataset}/records/reviews",
    "data/${dataset}/records/items",
    "data/${dataset}/records/rejects",
)


def run(params: Params, context: stage.Context) -> int:
    """Parse, clean and validate the lines of a dump; store what could not be accepted with its reason."""
    from pipelines.parsing import write_records

    return write_records.write_records(params, context)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage from the command line."""
    return stage.main("records", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
