"""Stage `records`: parses a dump of reviews and metadata into clean tables and accounts for every line.

Reads the files of `data/raw/<dataset>/` in one of four formats. Writes `records/reviews`, `records/items` and
`records/rejects`; for each file, lines read = lines kept + lines rejected.
Trade-off: gzip does not support random access, so each of `readers_per_file` workers decompresses the whole file and
parses every n-th block. Parts are named by block, so the tables do not depend on the number of workers. Memory is
bounded by two blocks of at most 64 MB of lines each, independent of the size of the dump.
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
    """Parse, clean and validate the lines of a dump; store rejected lines with their reason."""
    from pipelines.parsing import write_records

    return write_records.write_records(params, context)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage from the command line."""
    return stage.main("records", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
