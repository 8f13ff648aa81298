"""The device that a stage computes on, and in which arithmetic.

Enters: the settings' `device`, `num_threads` and `dtype`. Leaves: a torch device, and the context of a forward pass.
Trade-off: torch's number of threads is set for the whole process, as torch knows no other.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol

import torch
from torch import Tensor

from features.errors import ParamsError
from modeling.runtime import distributed

CPU = torch.device("cpu")


class OnDevice(Protocol):
    """What says where to compute: the settings of a training loop or of `evaluate`."""

    @property
    def device(self) -> str:
        """auto, cpu, cuda or cuda:N."""

    @property
    def num_threads(self) -> int | None:
        """CPU threads; None leaves torch's choice."""


def device_of(params: OnDevice) -> torch.device:
    """The device that the settings ask for, with torch's number of CPU threads set.

    Raises:
        ParamsError: a GPU is asked for and none is there.
    """
    if params.num_threads is not None:
        torch.set_num_threads(params.num_threads)
    if params.device == "auto":
        return torch.device(distributed.own_gpu() if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(params.device)
    except RuntimeError as error:
        raise ParamsError(f"device {params.device!r}", "auto, cpu, cuda or cuda:N", "change it") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ParamsError(f"device {params.device!r} on a machine without a GPU", "auto or cpu", "change it")
    return device


def arithmetic(device: torch.device, dtype: str) -> AbstractContextManager[Any]:
    """The context of a forward pass: bfloat16 by autocast, or float32 as it is."""
    return torch.autocast(device.type, torch.bfloat16) if dtype == "bfloat16" else nullcontext()


def moved(values: Tensor, device: torch.device) -> Tensor:
    """`values` on `device`; a GPU is not waited for."""
    if device.type != "cuda" or values.device.type != "cpu":
        return values.to(device)
    return values.pin_memory().to(device, non_blocking=True)
