"""`python -m flows.profile NAME` (`make run`): runs the pipeline of a profile, such as `toys`, and prints its results.

Writes the outputs of the stages below `data/`, `models/`, `metrics/`, `plots/` and `reports/`, beside those of
`params.yaml`.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from features.errors import InputError, VIP5Error
from features.runtime.exit_codes import exit_code_of
from features.runtime.faults import environment_faults
from features.runtime.stage import configure_logging
from flows.pipeline.derived_pipeline import reproduce, write_pipeline
from modeling import summary

log = logging.getLogger("vip5")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the pipeline of a profile, prints its results and returns DVC's exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.profile",
        description="Run the whole pipeline of a profile (make run PROFILE=NAME).",
        epilog="Several profiles are merged in order: .venv/bin/python -m flows.profile toys paper.",
    )
    parser.add_argument(
        "names", metavar="NAME", nargs="+", help="profiles/NAME.yaml; the dataset must have been ingested"
    )
    parser.add_argument(
        "--dry", action="store_true", help="list the stages that would run, for a pipeline that has run before"
    )
    arguments = parser.parse_args(argv)
    configure_logging()
    if not Path(".dvc").is_dir():
        log.error("profile: %s", InputError(f"no .dvc in {Path.cwd().name}", "the repository root", "change folder"))
        return InputError.exit_code
    try:
        with environment_faults():
            pipeline = write_pipeline(arguments.names)
    except VIP5Error as error:
        log.error("profile: %s", error)
        return error.exit_code
    code = reproduce(pipeline, dry=arguments.dry)
    if code == 0 and not arguments.dry:
        return summary.main(["--params", str(pipeline.with_name("params.yaml"))])
    return code


if __name__ == "__main__":
    sys.exit(exit_code_of("profile", main))
