"""Runs the pipeline of a profile, such as `toys`, beside that of `params.yaml`, and prints its results: `make run`.

Enters: names of profiles. Leaves: what the stages write below `data/`, `models/`, `metrics/`, `plots/` and `reports/`.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from features.errors import InputError, VIP5Error
from features.runtime.stage import configure_logging
from flows.pipeline.derived_pipeline import reproduce, write_line
from modeling import summary

log = logging.getLogger("vip5")


def main(argv: Sequence[str] | None = None) -> int:
    """Reproduces the line of a profile, prints its results and returns DVC's exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.profile",
        description="Run the whole line for a profile (make run PROFILE=NAME).",
        epilog="Several names are laid one over the other: .venv/bin/python -m flows.profile toys paper.",
    )
    parser.add_argument(
        "names", metavar="NAME", nargs="+", help="profiles/NAME.yaml; the dataset must have been ingested"
    )
    parser.add_argument(
        "--dry", action="store_true", help="only say which stages would run (of a line that has run once)"
    )
    arguments = parser.parse_args(argv)
    configure_logging()
    if not Path(".dvc").is_dir():
        log.error("profile: %s", InputError(f"no .dvc in {Path.cwd().name}", "the repository root", "change folder"))
        return InputError.exit_code
    try:
        line = write_line(arguments.names)
    except VIP5Error as error:
        log.error("profile: %s", error)
        return error.exit_code
    code = reproduce(line, dry=arguments.dry)
    if code == 0 and not arguments.dry:
        return summary.main(["--params", str(line.with_name("params.yaml"))])
    return code


if __name__ == "__main__":
    sys.exit(main())
