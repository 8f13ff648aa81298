"""`python -m flows.remote FOLDER`: a folder as this clone's DVC remote, in one command.

Enters: a folder (another disk, a mounted share) or an address that DVC knows. Leaves: `.dvc/config.local`, which Git
ignores: where a remote lies is this machine's business.
Trade-off: no credentials are handled here; DVC asks the store's own client for them.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from features.errors import InputError, VIP5Error
from features.runtime.stage import configure_logging
from flows.execution.subprocesses import dvc

log = logging.getLogger("vip5")


def main(argv: Sequence[str] | None = None) -> int:
    """Sets the default remote and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.remote",
        description="Make a folder, or an address such as s3://bucket/line, this clone's default DVC remote.",
        epilog="Then: .venv/bin/dvc push, and in another clone .venv/bin/python -m flows.remote FOLDER and "
        ".venv/bin/dvc pull.",
    )
    parser.add_argument("place", metavar="FOLDER", help="made where it does not exist")
    arguments = parser.parse_args(argv)
    configure_logging()
    try:
        set_remote(arguments.place)
    except VIP5Error as error:
        log.error("remote: %s", error)
        return error.exit_code
    log.info("remote: %s is the default remote of this clone", arguments.place)
    return 0


def set_remote(place: str, root: Path = Path()) -> None:
    """Writes the remote `store` into `.dvc/config.local`, over an earlier one.

    Raises:
        InputError: not in a DVC repository, or the folder cannot be made.
        CommandError: DVC does not take the address.
    """
    if not (root / ".dvc").is_dir():
        raise InputError("no .dvc here", "the repository root", "change folder")
    if "://" not in place:
        folder = Path(place).absolute()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{place} ({error.strerror})", "a folder that can be written", "choose another") from error
        place = str(folder)
    dvc(["remote", "add", "--local", "--force", "--default", "store", place], root, log.debug)


if __name__ == "__main__":
    sys.exit(main())
