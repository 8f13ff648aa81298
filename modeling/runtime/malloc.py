"""Keeps freed memory in the process, so that large tensors are not paged in anew at every operation.

Enters: nothing. Leaves: glibc's allocator with other settings, for the rest of the process.
Trade-off: the process holds its peak memory until it ends. By default glibc gives blocks above 32 MB back to the kernel
at once, and the page faults of the next such block cost up to ten times the arithmetic done on it.
"""

import ctypes
import sys

import torch

_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4  # names of mallopt's parameters in malloc.h
_NEVER, _GROW_BY = -1, 64 * 2**20


def keep_heap() -> bool:
    """Sets the allocator; returns whether it took the settings (glibc on Linux does, others are left alone)."""
    if sys.platform != "linux":
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _GROW_BY))
    return mallopt is not None and all(mallopt(name, value) == 1 for name, value in settings)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch, on a GPU or a CPU, could not get memory."""
    known = ("not enough memory", "can't allocate memory", "out of memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error).lower() for text in known)
