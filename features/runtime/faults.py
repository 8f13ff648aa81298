"""Faults of the machine as one line: a full disk, files of another owner, no network, a user id without a name.

Reads the exception, and the text of those of libraries that wrap the system's error (polars, pyarrow, safetensors).
Everything else is a programming error and keeps its traceback.
"""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

from features.errors import InputError, TableError, VIP5Error

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
_REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR}
_IN_TEXT = re.compile(r"\b(?:os error|errno) (\d+)\b", re.IGNORECASE)
_UNREACHABLE = {
    "socket.gaierror", "builtins.ConnectionRefusedError", "urllib.error.URLError", "httpx.TransportError",
    "requests.exceptions.ConnectionError", "requests.exceptions.Timeout",
    "huggingface_hub.errors.LocalEntryNotFoundError", "huggingface_hub.errors.OfflineModeIsEnabled",
}  # fmt: skip
_NAMELESS = re.compile(r"getpwuid\(\)|No username set|determine home directory")


@contextmanager
def environment_faults(kind: type[VIP5Error] = TableError) -> Iterator[None]:
    """Turns a fault of the machine into a VIP5Error; a failed write or read becomes a `kind`."""
    try:
        yield
    except VIP5Error:
        raise
    except Exception as error:
        fault = environment_fault(error, kind)
        if fault is None:
            raise
        raise fault from error


def environment_fault(error: BaseException, kind: type[VIP5Error] = TableError) -> VIP5Error | None:
    """The fault of the machine behind `error` or behind what caused it; None if there is none."""
    place: BaseException | None = error
    while place is not None:
        fault = _disk_fault(place, kind) or _other_fault(place)
        if fault is not None:
            return fault
        place = place.__cause__
    return None


def is_unreachable(error: BaseException) -> bool:
    """Whether `error` says that a server could not be reached."""
    names = {f"{base.__module__}.{base.__qualname__}" for base in type(error).__mro__}
    return bool(names & _UNREACHABLE) or "couldn't connect to" in str(error)


def disk_remedy(error: BaseException) -> tuple[str, str]:
    """What is expected, and what to do, where a file could not be read or written because of `error`."""
    number = _number(error)
    if number == errno.ENOTDIR:
        return "folders on the way to it", "move away the file that stands in place of a folder"
    if number in _REFUSED:
        return (
            f"a checkout and data that user id {os.getuid()} may read and write",
            'sudo chown -R "$(id -u)" . in the repository, or clone it elsewhere',
        )
    return "a disk with room", "free or mount it"


def _number(error: BaseException) -> int | None:
    """The system's number of an error, also of one that a library has turned into text."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    said = _IN_TEXT.search(str(error))
    return int(said[1]) if said else None


def _disk_fault(error: BaseException, kind: type[VIP5Error]) -> VIP5Error | None:
    number = _number(error)
    if number is None or number not in _FULL | _REFUSED:
        return None
    path = getattr(error, "filename", None)
    where = "a file" if path is None else os.fsdecode(path) if isinstance(path, str | bytes) else str(path)
    what = "that cannot be written" if number in _FULL else "that cannot be read or written"
    return kind(f"{where} {what} ({os.strerror(number)})", *disk_remedy(error))


def _other_fault(error: BaseException) -> VIP5Error | None:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    if is_unreachable(error):
        return InputError(
            f"a server that cannot be reached ({reason})", "network access, or files on this machine",
            "run where the network is, or name a folder with the files in the parameters "
            "(docs/guides/pretrained-weights.md)",
        )  # fmt: skip
    if isinstance(error, KeyError | OSError | RuntimeError) and _NAMELESS.search(reason):
        return InputError(
            f"user id {os.getuid()} without a name or home folder", "both, as some libraries ask for them",
            f"export LOGNAME=user{os.getuid()} HOME=/tmp, and run again",
        )  # fmt: skip
    return None
