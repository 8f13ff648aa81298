"""A dump of reviews and metadata as clean tables, with every line accounted for.

Enters: the files of `data/raw/<dataset>/` in one of four formats. Leaves: `records/reviews`, `records/items` and
`records/rejects`; lines in = lines kept + lines rejected, for each file.
Trade-off: a gzip file cannot be entered in the middle, so each of `num_strides` workers inflates it whole and parses
every n-th block; parts are named by block, so the tables do not depend on the number of workers. Memory is that of a
block or two, at most 64 MB of lines each, whatever the size of the dump.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass

from features import stage


@dataclass(frozen=True, kw_only=True)
class Params:
    """How the files are cut into work."""

    num_strides: int = 1
    """Units of work a file: as many workers as may parse one file at the same time."""
    lines_per_block: int = 20_000
    """Lines of a block, which becomes one part of a table; a block of 64 MB has fewer."""
    max_line_bytes: int = 1_048_576
    """A longer line is rejected, in bytes."""
    max_inflation: float = 100.0
    """Bytes that one byte of a gzip file may become beyond its first 8 MB; more is a bomb (dumps: 3 to 10)."""

    def __post_init__(self) -> None:
        for name in ("num_strides", "lines_per_block", "max_line_bytes", "max_inflation"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least 1")


SECTIONS = ("datasets", "beam")
READS = ("data/raw/${dataset}",)
WRITES = (
    "data/${dataset}/records/reviews",
    "data/${dataset}/records/items",
    "data/${dataset}/records/rejects",
)


def run(params: Params, context: stage.Context) -> int:
    """Parse, clean and validate the lines of a dump; store what could not be accepted with its reason."""
    from pipelines import dump_records

    return dump_records.write_records(params, context)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage from the command line."""
    return stage.main("records", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
