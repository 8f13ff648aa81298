"""Several processes that train one model: `torchrun --nproc-per-node N -m modeling.train`.

Enters: what torchrun puts into the environment. Leaves: the same gradients and decisions in every process.
Trade-off: one sum over all gradients after the last pass of a step, instead of a wrapper around the model: few
numbers train, and a wrapper must be told of passes that accumulate.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


def world() -> int:
    """Number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """This process among them, from 0; the first one measures and writes."""
    return int(os.environ.get("RANK", "0"))


def own_gpu() -> str:
    """The GPU of this process."""
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Inside, the processes can talk; nothing happens where there is one."""
    if world() == 1:
        yield
        return
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
        dist.barrier()
    finally:
        dist.destroy_process_group()


def add_up_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Every gradient becomes the sum of the processes' gradients; one that a process lacks counts as zeros."""
    if world() == 1:
        return
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
    dist.all_reduce(flat)
    parts = torch.split(flat, [p.numel() for p in parameters])
    for parameter, part in zip(parameters, parts, strict=True):
        parameter.grad = part.view_as(parameter)


def add_up(values: Tensor) -> Tensor:
    """The sum of `values` over the processes."""
    if world() > 1:
        dist.all_reduce(values)
    return values


def from_the_first(find: Callable[[], T]) -> T:
    """What `find` returns in the first process; the others do not call it."""
    if world() == 1:
        return find()
    found: list[T | None] = [find() if rank() == 0 else None]
    dist.broadcast_object_list(found, src=0)
    return found[0]  # type: ignore[return-value]  # the first process put it there
