"""`python -m flows.champion NAME`: which models were promoted, and going back to one of them.

Enters: `models/NAME/champions/`. Leaves: lines, or the pointer moved. Trade-off: an earlier champion is used as it was
sealed; what changed in the tables since is for the next retrain.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from features.errors import ParamsError, VIP5Error
from features.runtime.params import load_yaml, nearest
from features.runtime.stage import configure_logging
from flows.registry import model_registry
from modeling.serving import promoted_model

log = logging.getLogger("vip5")


def main(argv: Sequence[str] | None = None) -> int:
    """Lists the models of a dataset that were promoted, oldest first, or makes one of them the champion again."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.champion", description=main.__doc__,
        epilog="Exit codes: 0 done; 2 no such dataset; 3 no such champion; 5 the champion is damaged.",
    )  # fmt: skip
    parser.add_argument("name", metavar="NAME", help="the dataset")
    parser.add_argument(
        "--use",
        metavar="DIGEST",
        help="make this one the champion again; the first digits are enough where they differ",
    )
    arguments = parser.parse_args(argv)
    configure_logging()
    from flows.registry.champion_report import report

    try:
        check_name(arguments.name)
        if arguments.use is not None:
            model_registry.use(arguments.name, arguments.use)
        sys.stdout.write("\n".join(report(arguments.name)) + "\n")
        promoted_model.current(arguments.name)
    except VIP5Error as error:
        log.error("champion: %s", error)
        return error.exit_code
    return 0


def check_name(name: str, root: Path = Path()) -> None:
    """Raises ParamsError where no dataset has this name: none of params.yaml or a profile, and none with champions."""
    files = [root / "params.yaml", *sorted((root / "profiles").glob("*.yaml"))]
    known = {str(entry) for path in files for entry in load_yaml(path).get("datasets") or {}}
    known |= {path.parent.name for path in (root / "models").glob("*/champions")}
    if name not in known:
        raise ParamsError(f"dataset {name!r}", nearest(name, sorted(known)), "name a dataset of params.yaml")


if __name__ == "__main__":
    sys.exit(main())
