"""Device selection, mixed precision and transfers to a device.

Reads the settings `device`, `num_threads` and `dtype`. The number of threads applies to the whole process.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from features.errors import ParamsError
from features.runtime.torchrun import resolve_device

CPU = torch.device("cpu")


class OnDevice(Protocol):
    """Settings that select a device: those of a training loop or of `evaluate`."""

    @property
    def device(self) -> str:
        """auto, cpu, cuda or cuda:N."""

    @property
    def num_threads(self) -> int | None:
        """CPU threads; None for torch's default."""


def device_of(params: OnDevice) -> torch.device:
    """Returns the device of the settings and sets torch's number of CPU threads.

    Raises:
        ParamsError: the device is unknown, or a GPU is requested and none is available.
    """
    if params.num_threads is not None:
        torch.set_num_threads(params.num_threads)
    try:
        device = torch.device(resolve_device(params.device))
    except RuntimeError as error:
        raise ParamsError(f"device {params.device!r}", "auto, cpu, cuda or cuda:N", "change it") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ParamsError(f"device {params.device!r} on a machine without a GPU", "auto or cpu", "change it")
    return device


def autocast(device: torch.device, dtype: str) -> AbstractContextManager[Any]:
    """The context of a forward pass: autocast to bfloat16, or no change for float32."""
    return torch.autocast(device.type, torch.bfloat16) if dtype == "bfloat16" else nullcontext()


def to_device(values: Tensor, device: torch.device) -> Tensor:
    """Copies `values` to `device`; copies from the CPU to a GPU are asynchronous."""
    if device.type != "cuda" or values.device.type != "cpu":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
