"""Data-parallel training in several processes: `torchrun --nproc-per-node N -m modeling.train`.

Gives every process of `features.runtime.torchrun` the same gradients and decisions.
Trade-off: one all-reduce of all gradients after the last microbatch of a step instead of DistributedDataParallel,
because few parameters train and gradient accumulation needs no special handling.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from features.runtime.torchrun import rank, world

T = TypeVar("T")


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Initialises the default process group inside the context; does nothing for a single process."""
    if world() == 1:
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
        dist.barrier()
    finally:
        dist.destroy_process_group()


def all_reduce_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replaces every gradient by its sum over all processes; a missing gradient counts as zeros."""
    if world() == 1:
        return
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
    dist.all_reduce(flat)
    parts = torch.split(flat, [p.numel() for p in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part.view_as(parameter)


def all_reduce_sum(values: Tensor) -> Tensor:
    """Sums `values` in place over all processes and returns them."""
    if world() > 1:
        dist.all_reduce(values)
    return values


def broadcast_from_rank0(compute: Callable[[], T]) -> T:
    """Calls `compute` in rank 0 only and returns its result in every process."""
    if world() == 1:
        return compute()
    results: list[T | None] = [compute() if rank() == 0 else None]
    dist.broadcast_object_list(results, src=0)
    return results[0]  # type: ignore[return-value]  # rank 0 has set it
