"""`python -m flows.remote FOLDER`: makes a folder or URL the default DVC remote of this clone.

Writes `.dvc/config.local`, which Git ignores, because the location of a remote depends on the machine. Credentials are
left to the client of the remote's storage.
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
from flows.execution.subprocesses import dvc

log = logging.getLogger("vip5")


def main(argv: Sequence[str] | None = None) -> int:
    """Sets the default remote and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.remote",
        description="Make a folder, or a URL such as s3://bucket/vip5, the default DVC remote of this clone.",
        epilog="Then: .venv/bin/dvc push, and in another clone .venv/bin/python -m flows.remote FOLDER and "
        ".venv/bin/dvc pull.",
    )
    parser.add_argument("place", metavar="FOLDER", help="created if it does not exist")
    arguments = parser.parse_args(argv)
    configure_logging()
    try:
        with environment_faults():
            set_remote(arguments.place)
    except VIP5Error as error:
        log.error("remote: %s", error)
        return error.exit_code
    log.info("remote: %s is the default remote of this clone", arguments.place)
    return 0


def set_remote(place: str, root: Path = Path()) -> None:
    """Writes the remote `store` to `.dvc/config.local`; replaces an earlier one.

    Raises:
        InputError: this is no DVC repository, or the folder cannot be created.
        CommandError: DVC rejects the URL.
    """
    if not place.isprintable() or not place.strip() or place.startswith("-"):
        raise InputError(f"{place!r}", "a folder, or a URL such as s3://bucket/vip5", "type it without line breaks")
    if not (root / ".dvc").is_dir():
        raise InputError("no .dvc here", "the repository root", "change folder")
    if "://" not in place:
        folder = Path(place).absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{place} ({error.strerror})", "a writable folder", "choose another") from error
        place = str(folder)
    dvc(["remote", "add", "--local", "--force", "--default", "store", place], root, log.debug)


if __name__ == "__main__":
    sys.exit(exit_code_of("remote", main))
