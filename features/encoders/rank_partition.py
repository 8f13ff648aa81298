"""Partitions photos and titles among processes by digest.

Reads the environment of torchrun. Returns a `Share`.
Trade-off: processes do not communicate; they meet in the shard folder, on one machine or several. A share does not
depend on start order, but no process takes over the rest of a slow one.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

from features.errors import InputError, ParamsError
from features.runtime import torchrun


@dataclass(frozen=True, kw_only=True)
class Share:
    """Rank of this process among `world` processes; rank 0 writes the tables."""

    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise ParamsError(f"RANK={self.rank} of WORLD_SIZE={self.world}", "0 <= rank < world", "start by torchrun")

    def has(self, digest: str) -> bool:
        """Whether this process encodes the photo or title with this hexadecimal digest."""
        return int(digest[:12], 16) % self.world == self.rank

    @property
    def merges(self) -> bool:
        """Whether this process merges the results and writes the tables."""
        return self.rank == 0


def share() -> Share:
    """The share of this process, from torchrun's environment variables; all of the work if they are not set."""
    return Share(rank=torchrun.rank(), world=torchrun.world())


def wait_until_none(
    missing: Callable[[], int], *, world: int, patience_seconds: float, pause_seconds: float = 0.5
) -> None:
    """Waits until the other processes have encoded their share.

    Args:
        missing: Returns the number of photos or titles not encoded yet.
        world: Number of processes; a single process does not wait.
        patience_seconds: Maximum number of seconds without progress.
        pause_seconds: Seconds between two checks.

    Raises:
        InputError: There was no progress for `patience_seconds`.
        RuntimeError: Some are missing although this is the only process.
    """
    left, since = missing(), time.monotonic()
    if left and world == 1:
        raise RuntimeError(f"{left} not encoded at the end of the only process's share")
    while left:
        time.sleep(pause_seconds)
        now = missing()
        if now != left:
            left, since = now, time.monotonic()
        elif time.monotonic() - since > patience_seconds:
            raise InputError(
                f"{left} photos or titles not encoded by other processes, no progress for {patience_seconds:.0f} s",
                "all processes running on the same photos and parameters",
                "check the other processes; a restart keeps what is encoded",
            )
