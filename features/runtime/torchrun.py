"""The environment of torchrun, and the device of each of its processes.

Reads RANK, WORLD_SIZE, LOCAL_RANK and LOCAL_WORLD_SIZE; without them, this is the only process.
"""

import os


def rank() -> int:
    """Rank of this process among all, from 0; only rank 0 writes."""
    return int(os.environ.get("RANK", "0"))


def world() -> int:
    """Number of processes."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def local_world() -> int:
    """Number of processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def resolve_device(name: str) -> str:
    """The device that `name` means in this process.

    Args:
        name: auto (a GPU if available, else the CPU), cuda (the GPU of this process), or any other device.

    Example:
        With LOCAL_RANK=1 on a machine with four GPUs: auto -> cuda:1, cuda -> cuda:1, cuda:3 -> cuda:3, cpu -> cpu.
    """
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda":
        return f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % max(1, torch.cuda.device_count())}"
    return name
