"""`python -m flows.champion NAME`: which models were promoted, and going back to one of them.

Enters: `models/NAME/champions/`. Leaves: lines, or the pointer moved. Trade-off: an earlier champion is used as it was
sealed; what changed in the tables since is for the next retrain.
"""

import argparse
import logging
import sys
from collections.abc import Sequence

from features.errors import VIP5Error
from features.stage import configure_logging
from flows import champions

log = logging.getLogger("vip5")


def main(argv: Sequence[str] | None = None) -> int:
    """Lists the champions of a data set, oldest first, or points at one of them; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m flows.champion", description=main.__doc__)
    parser.add_argument("name", metavar="NAME", help="the dataset")
    parser.add_argument("--use", metavar="DIGEST", help="point at this one again")
    arguments = parser.parse_args(argv)
    configure_logging()
    try:
        if arguments.use is not None:
            champions.use(arguments.name, arguments.use)
        now = champions.current(arguments.name)
    except VIP5Error as error:
        log.error("champion: %s", error)
        return error.exit_code
    for digest in champions.known_champions(arguments.name):
        log.info("%s %s", "*" if now is not None and now.digest == digest else "-", digest)
    return 0


if __name__ == "__main__":
    sys.exit(main())
