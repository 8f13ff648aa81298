"""Ends a command in one line: a known error, an interrupt or a fault of the machine, each with its exit code.

`sys.exit(exit_code_of("champion", main))` is the last line of a command.
"""

import logging
from collections.abc import Callable

from features.errors import InputError, VIP5Error
from features.runtime.faults import environment_faults

INTERRUPTED = 130
log = logging.getLogger("vip5")


def exit_code_of(command: str, main: Callable[[], int]) -> int:
    """Runs `main` and returns its exit code, or that of the error that it raised, logged in one line.

    Args:
        command: the name of the command, which the line begins with.
        main: the command.
    """
    try:
        with environment_faults(InputError):
            return main()
    except VIP5Error as error:
        log.error("%s: %s", command, error)
        return error.exit_code
    except KeyboardInterrupt:
        log.error("%s: interrupted", command)
        return INTERRUPTED
