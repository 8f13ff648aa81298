"""`python -m flows.champion NAME`: lists the promoted models and makes one of them the champion.

Reads `models/NAME/champions/`; with `--use`, moves the pointer. An earlier champion is used with the tables with which
it was sealed; later changes of the tables apply from the next retrain on.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from features.errors import ParamsError, VIP5Error
from features.runtime.exit_codes import exit_code_of
from features.runtime.faults import environment_faults
from features.runtime.names import checked_name
from features.runtime.params import nearest
from features.runtime.profiles import known_datasets
from features.runtime.remedies import for_profile
from features.runtime.stage import configure_logging
from flows.registry import model_registry
from modeling.serving import promoted_model

log = logging.getLogger("vip5")


def main(argv: Sequence[str] | None = None) -> int:
    """List the promoted models of a dataset, oldest first, or make one of them the champion."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.champion", description=main.__doc__,
        epilog="Exit codes: 0 done; 2 no such dataset; 3 no such champion; 5 the champion is damaged.",
    )  # fmt: skip
    parser.add_argument("name", metavar="NAME", help="the dataset")
    parser.add_argument(
        "--use",
        metavar="DIGEST",
        help="make this model the champion; a unique prefix of its digest is enough",
    )
    arguments = parser.parse_args(argv)
    configure_logging()
    from flows.registry.champion_report import report

    try:
        with environment_faults():
            check_name(arguments.name)
            if arguments.use is not None:
                model_registry.use(arguments.name, arguments.use)
            sys.stdout.write("\n".join(report(arguments.name)) + "\n")
            promoted_model.current(arguments.name)
    except VIP5Error as error:
        log.error("champion: %s", for_profile(error, Path("params.yaml"), arguments.name))
        return error.exit_code
    return 0


def check_name(name: str, root: Path = Path()) -> None:
    """Raises ParamsError unless params.yaml, a profile or the folder of champions has a dataset of this name."""
    checked_name(name, "dataset")
    known = known_datasets(root) | {path.parent.name for path in (root / "models").glob("*/champions")}
    if name not in known:
        raise ParamsError(f"dataset {name!r}", nearest(name, sorted(known)), "name a dataset of params.yaml")


if __name__ == "__main__":
    sys.exit(exit_code_of("champion", main))
