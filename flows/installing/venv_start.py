"""Start-up code of every Python of `.venv`; `make setup` copies this file into it as `vip5_start.py`.

Puts `.venv/bin` first on PATH, so that `.venv/bin/dvc repro` finds the stages' `python` without activation, and sets
LOGNAME, which DVC and torch need, for a user id without a name, as in containers.
"""

import os
import sys


def start() -> None:
    """Modifies `os.environ` of this process and thereby of its children."""
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
