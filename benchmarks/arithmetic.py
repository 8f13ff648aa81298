"""Counts floating-point operations of a model and measures the peak rate of a device.

Trade-off: a large matrix product of torch is the reference peak; data sheets state higher rates.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.utils.flop_counter import FlopCounterMode


@contextmanager
def counted() -> Iterator[FlopCounterMode]:
    """Counts floating-point operations, with fused attention disabled because torch cannot count it."""
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with FlopCounterMode(display=False) as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def product_rate(device: str, dtype: torch.dtype, side: int, repeats: int = 20) -> float:
    """TFLOP/s of a square matrix product."""
    left, right = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    seconds = 0.0
    for number in (3, repeats):  # the first products load the library
        began = time.monotonic()
        for _ in range(number):
            left @ right
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds = time.monotonic() - began
    return 2 * side**3 * repeats / seconds / 1e12
