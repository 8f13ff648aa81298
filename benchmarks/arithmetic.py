"""Floating-point operations: how many a model spends, and how many a machine can.

Enters: a model's call; a device and a number type. Leaves: counts and rates.
Trade-off: a large product of one library is the peak that a model can hope for here; a data sheet promises more.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode


@contextmanager
def counted() -> Iterator[FlopCounterMode]:
    """Counts floating-point operations; torch's fused attention, which its counter does not know, is off meanwhile."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def product_rate(device: str, dtype: torch.dtype, side: int, repeats: int = 20) -> float:
    """TFLOP/s of a square matrix product of random numbers."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = 0.0
    for number in (3, repeats):  # the first ones load the library
        began = time.monotonic()
        for _ in range(number):
            left @ right
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds = time.monotonic() - began
    return 2 * side**3 * repeats / seconds / 1e12
