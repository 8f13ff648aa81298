"""Seeds torch's generators by named streams.

Reads a seed and names such as a stage and a step; the same names give the same stream in every process.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from features.runtime.seeds import stable_hash


def seed_torch(seed: int, *names: object) -> None:
    """Seeds torch's default generators by the named stream."""
    torch.manual_seed(stable_hash(seed, *names) % 2**63)


@contextmanager
def seeded(seed: int, *names: object) -> Iterator[None]:
    """Seeds torch's generators by the named stream inside the context and restores their state afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        seed_torch(seed, *names)
        yield
