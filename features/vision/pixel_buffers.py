"""Memory for pixel batches: pageable, pinned for a GPU, shared with worker processes, or both.

Each buffer is one block of memory, visible as a tensor here and as an array in the worker that fills it.
Trade-off: a few buffers are reused in turn, so that nothing is allocated, copied or sent between processes per photo.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from math import prod
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path
from shutil import disk_usage
from typing import TYPE_CHECKING, Any

import numpy as np

from features.errors import TrainingError

if TYPE_CHECKING:
    import torch

SHARED = Path("/dev/shm")  # noqa: S108 - where Linux keeps shared memory; only its free space is asked for


@dataclass(frozen=True, kw_only=True)
class SharedTarget:
    """Handle by which another process opens a buffer."""

    name: str
    shape: tuple[int, ...]


Target = SharedTarget | np.ndarray


@dataclass(kw_only=True)
class Buffer:
    """A pixel buffer: `pixels` for the encoder and `target` for the workers share the same memory."""

    pixels: "torch.Tensor"
    target: Target
    release: Callable[[], None]

    def close(self) -> None:
        """Releases the memory."""
        del self.pixels, self.target
        self.release()


def new_buffer(shape: tuple[int, ...], *, shared: bool, pinned: bool) -> Buffer:
    """Allocates a zeroed byte buffer.

    Raises:
        TrainingError: Too little shared memory (containers often have 64 MB), or memory that cannot be pinned.
    """
    import torch

    if not shared:
        pixels = torch.zeros(shape, dtype=torch.uint8, pin_memory=pinned)
        return Buffer(pixels=pixels, target=pixels.numpy(), release=lambda: None)
    num_bytes = prod(shape)
    if SHARED.is_dir() and disk_usage(SHARED).free < num_bytes:
        raise TrainingError(
            f"{disk_usage(SHARED).free / 1e6:.0f} MB of shared memory free", f"{num_bytes / 1e6:.0f} MB per batch",
            "raise the container's limit (--shm-size), lower images.batch_size, or set images.decoders: threads",
        )  # fmt: skip
    memory = SharedMemory(create=True, size=num_bytes)
    array = np.ndarray(shape, np.uint8, buffer=memory.buf)
    array.fill(0)  # pages are allocated on first write: do it right after the check of free memory
    pixels = torch.from_numpy(array)
    address = pixels.data_ptr()
    if pinned and int(_cuda().cudaHostRegister(address, num_bytes, 0)) != 0:
        memory.close()
        memory.unlink()
        raise TrainingError(
            f"{num_bytes / 1e6:.0f} MB that cannot be pinned", "lockable memory (ulimit -l)",
            "raise the limit, or set images.decoders: threads",
        )  # fmt: skip

    def release() -> None:
        if pinned:
            _cuda().cudaHostUnregister(address)
        memory.unlink()
        with suppress(BufferError):  # after an error a traceback may still reference a batch
            memory.close()

    return Buffer(pixels=pixels, target=SharedTarget(name=memory.name, shape=shape), release=release)


def _cuda() -> Any:
    import torch

    return torch.cuda.cudart()  # type: ignore[no-untyped-call]


def view(target: Target) -> np.ndarray:
    """The buffer as an array, in the process that allocated it or in another one."""
    if isinstance(target, np.ndarray):
        return target
    return np.ndarray(target.shape, np.uint8, buffer=_attached(target.name).buf)


@lru_cache(maxsize=64)
def _attached(name: str) -> SharedMemory:
    return SharedMemory(name=name)
