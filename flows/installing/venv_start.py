"""What every Python of `.venv` does first; `make setup` copies this file into it as `vip5_start.py`.

Enters: the environment of the process. Leaves: `.venv/bin` first on its PATH, so that `.venv/bin/dvc repro` finds the
stages' `python` with nothing activated; and a LOGNAME where the user id has no name (a container's), for which DVC and
torch ask.
"""

import os
import sys


def start() -> None:
    """Changes `os.environ` of this process, which its children inherit."""
    own = os.path.join(sys.prefix, "bin")  # noqa: PTH118 - pathlib costs a third of Python's start
    others = [path for path in os.environ.get("PATH", os.defpath).split(os.pathsep) if path != own]
    os.environ["PATH"] = os.pathsep.join([own, *others])
    if not any(os.environ.get(name) for name in ("LOGNAME", "USER", "LNAME", "USERNAME")):
        import pwd

        try:
            pwd.getpwuid(os.getuid())
        except KeyError:
            os.environ["LOGNAME"] = f"user{os.getuid()}"


start()
