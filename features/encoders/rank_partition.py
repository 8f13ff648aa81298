"""How several processes share the work: each photo or title belongs to one of them by its digest.

Enters: the environment that torchrun sets (RANK, WORLD_SIZE). Leaves: a `Share`.
Trade-off: no process talks to another, on one machine or many: they meet in the shard folder alone, so that a share
does not depend on who started first. The price is that nobody takes over the rest of a slow one.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from features.errors import InputError, ParamsError


@dataclass(frozen=True, kw_only=True)
class Share:
    """Which of `world` processes this one is; the one of rank 0 writes the tables."""

    rank: int = 0
    world: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.world:
            raise ParamsError(f"RANK={self.rank} of WORLD_SIZE={self.world}", "0 <= rank < world", "start by torchrun")

    def has(self, digest: str) -> bool:
        """Whether the photo or title of this digest (hexadecimal) is this process's to encode."""
        return int(digest[:12], 16) % self.world == self.rank

    @property
    def merges(self) -> bool:
        """Whether this process puts the tables together."""
        return self.rank == 0


def share() -> Share:
    """The share of this process; all of the work unless torchrun (or whoever sets its variables) says otherwise."""
    return Share(rank=int(os.environ.get("RANK", "0")), world=int(os.environ.get("WORLD_SIZE", "1")))


def wait_until_none(
    missing: Callable[[], int], *, world: int, patience_seconds: float, pause_seconds: float = 0.5
) -> None:
    """Waits for the other processes.

    Args:
        missing: how many photos or titles are not encoded yet.
        world: how many processes there are; one alone has nobody to wait for.
        patience_seconds: how long that number may stay the same.
        pause_seconds: between two looks.

    Raises:
        InputError: it stayed the same for so long.
        RuntimeError: some are missing though nobody else could encode them.
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
                f"{left} that another process should have encoded, none new for {patience_seconds:.0f} s",
                "all processes at work on the same photos and parameters",
                "see what became of the others; starting again loses nothing",
            )
