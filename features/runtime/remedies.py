"""Names the command and the file of a profile in the errors of its run, which are written for `params.yaml`.

Reads the first line of the parameters that `flows.profile` derives. Returns the error with the action that helps there:
`dvc repro` in the repository root would run the pipeline of another dataset.
"""

import re
from pathlib import Path
from typing import TypeVar

from features.errors import VIP5Error

E = TypeVar("E", bound=VIP5Error)
NOTICE = "# Made of params.yaml + {names} by flows.profile; edit those instead.\n"
_NOTICE = re.compile(r"# Made of params\.yaml \+ (.+) by flows\.profile;")
_REPRO = re.compile(r"`(?:\.venv/bin/)?dvc repro(?: \w+)?`")
_PARAMS = re.compile(r"(?<![\w./])params\.yaml")


def for_profile(error: E, params: Path, dataset: str | None = None) -> E:
    """The error with the remedy of the run that it belongs to.

    Args:
        error: An error whose action may name `dvc repro` or `params.yaml`.
        params: The parameter file of the run.
        dataset: The dataset, if it is chosen by name: then its own parameters count, if there are any.

    Example:
        "run `.venv/bin/dvc repro train`" becomes "run `make run PROFILE=toys`" in the run of the profile toys.
    """
    own = params.parent / "work" / "profiles" / (dataset or "") / "params.yaml"
    names = profile_names(own if dataset and own.is_file() else params)
    if not names:
        return error
    shown = names[0] if len(names) == 1 else f"'{' '.join(names)}'"
    action = _REPRO.sub(f"`make run PROFILE={shown}`", error.action)
    action = _PARAMS.sub(f"profiles/{names[-1]}.yaml", action.replace(str(params), "params.yaml"))
    return error if action == error.action else type(error)(error.found, error.expected, action)


def for_dataset(error: E, dataset: str | None) -> E:
    """The error with the dataset's name in place of `datasets.NAME`."""
    if dataset is None or not any("datasets.NAME" in part for part in error.args):
        return error
    return type(error)(*(part.replace("datasets.NAME", f"datasets.{dataset}") for part in error.args))


def profile_names(params: Path) -> list[str]:
    """The profiles from which the file was derived; empty for any other file."""
    if not params.is_file():
        return []
    with params.open(encoding="utf-8", errors="replace") as stream:
        match = _NOTICE.match(stream.readline())
    return match[1].split(" + ") if match else []
