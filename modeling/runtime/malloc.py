"""Configures glibc's allocator to keep freed memory in the process.

Trade-off: the process keeps its peak memory until it exits. By default glibc returns blocks above 32 MB to the kernel
immediately, and the page faults of the next such block cost up to ten times the computation on it.
"""

import ctypes
import sys

import torch

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # parameters of mallopt, from malloc.h
_NEVER, _GROW_BY = -1, 64 * 2**20


def tune_malloc() -> bool:
    """Configures the allocator for the rest of the process; returns False where it is not glibc's."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _GROW_BY))
    return mallopt is not None and all(mallopt(name, value) == 1 for name, value in settings)


def is_out_of_memory(error: BaseException) -> bool:
    """Returns whether `error` means that a GPU or CPU allocation failed."""
    known = ("not enough memory", "can't allocate memory", "out of memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error).lower() for text in known)
