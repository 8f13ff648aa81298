"""Ends a command in one line: a known error, an interrupt or a full disk, each with its exit code.

`sys.exit(exit_code_of("champion", main))` is the last line of a command.
"""

import errno
import logging
from collections.abc import Callable

from features.errors import InputError, VIP5Error

INTERRUPTED = 130
DISK_ERRORS = frozenset({
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EIO,
})  # fmt: skip
log = logging.getLogger("vip5")


def exit_code_of(command: str, main: Callable[[], int]) -> int:
    """Runs `main` and returns its exit code, or that of the error that it raised, logged in one line.

    Args:
        command: the name of the command, which the line begins with.
        main: the command.

    Raises:
        OSError: one that is not about the disk or its permissions.
    """
    try:
        return main()
    except VIP5Error as error:
        log.error("%s: %s", command, error)
        return error.exit_code
    except KeyboardInterrupt:
        log.error("%s: interrupted", command)
        return INTERRUPTED
    except OSError as error:
        if error.errno not in DISK_ERRORS:
            raise
        log.error("%s: %s", command, InputError(f"{error}", "a disk with room and rights to write", "free or mount it"))
        return InputError.exit_code
