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


def _disk_fault(error: BaseException, kind: type[VIP5Error]) -> VIP5Error | None:
    number = error.errno if isinstance(error, OSError) else None
    if number is None and (said := _IN_TEXT.search(str(error))):
        number = int(said[1])
    if number not in _FULL | _REFUSED:
        return None
    path = getattr(error, "filename", None)
    where = "a file" if path is None else os.fsdecode(path) if isinstance(path, str | bytes) else str(path)
    if number in _FULL:
        return kind(f"{where} that cannot be written ({os.strerror(number)})", "a disk with room", "free or mount it")
    return kind(
        f"{where} that user id {os.getuid()} may not read or write ({os.strerror(number)})",
        "a checkout and data of this user, on a disk that can be written",
        'sudo chown -R "$(id -u)" . in the repository, or clone it elsewhere',
    )


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
