"""`python -m flows.graph`: checks or updates `deps`, `params` and `outs` in `dvc.yaml`, and the form of `params.yaml`.

Stages, commands, descriptions, metrics and plots in `dvc.yaml` are maintained manually; the other blocks are derived
from the stage modules and their imports.
"""

import argparse
import difflib
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from features.errors import VIP5Error
from features.runtime.exit_codes import exit_code_of
from features.runtime.params import load_yaml
from features.runtime.stage import configure_logging
from flows.pipeline import params_form
from flows.pipeline.stage_graph import GraphError, all_needs, fill

log = logging.getLogger("vip5")


def main(argv: Sequence[str] | None = None) -> int:
    """Checks or rewrites `dvc.yaml` and `params.yaml`; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.graph",
        description="Check that dvc.yaml lists what the stages read, import and write, "
        "and that params.yaml is formatted as DVC writes it.",
    )
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--check", action="store_true", help="fail with a diff if they differ")
    choice.add_argument("--write", action="store_true", help="rewrite the blocks deps, params and outs; params.yaml")
    arguments = parser.parse_args(argv)
    configure_logging()
    path = Path("dvc.yaml")
    try:
        return _main(path, write=arguments.write)
    except VIP5Error as error:
        log.error("graph: %s", error)
        return error.exit_code


def _main(path: Path, *, write: bool) -> int:
    sys.path.insert(0, str(Path.cwd()))
    before = path.read_text(encoding="utf-8")
    after = fill(before, all_needs(load_yaml(path)))
    yaml.safe_load(after)
    same = params_form.check(Path("params.yaml"), write=write)
    if write:
        path.write_text(after, encoding="utf-8")
        log.warning("graph: %s", "unchanged" if same and after == before else "rewritten")
        return 0
    if after != before:
        sys.stdout.writelines(difflib.unified_diff(before.splitlines(True), after.splitlines(True), "dvc.yaml", "code"))
        raise GraphError(
            "dvc.yaml that differs from the code", "no difference", ".venv/bin/python -m flows.graph --write"
        )
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of("graph", main))
