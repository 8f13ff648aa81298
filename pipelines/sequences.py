"""Clean reviews as each user's purchases in time order, numbered and split, with a fixed rule for every doubt.

Enters: `records/reviews` and `records/items`. Leaves: `sequences/users`, `sequences/items`, `sequences/interactions`.
Trade-off: keys are turned into integers first and the table is held in memory, about 40 bytes an interaction.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from features import stage

LEAST_INTERACTIONS = 3


@dataclass(frozen=True, kw_only=True)
class Params:
    """Which interactions count, in which order, under which numbers."""

    k_core: int = 5
    """Interactions that every user and every item keeps at least; 0 keeps all."""
    repeats: Literal["first", "last", "all"] = "first"
    """Which of a user's reviews of one item at different times count."""
    ties: Literal["hash", "file"] = "hash"
    """Order of a user's interactions of the same second: by a seeded hash of the keys, or as in the file, by item."""
    numbering: Literal["random", "train_first", "p5"] = "random"
    """Item numbers: seeded permutation; train split first; or by first appearance, which leaks the answer."""
    user_numbers: Literal["random", "table"] = "random"
    """What prompts write for a user: a number drawn by the seed, or user_id. The published order of users is that of a
    file in which neighbours share items, so their numbers can tell the answer (Beauty)."""
    max_interactions_per_user: int | None = None
    """Only the newest so many interactions of a user; null keeps all."""

    def __post_init__(self) -> None:
        if self.k_core < 0:
            raise ValueError(f"k_core = {self.k_core} must not be negative")
        if self.max_interactions_per_user is not None and self.max_interactions_per_user < LEAST_INTERACTIONS:
            raise ValueError(
                f"max_interactions_per_user = {self.max_interactions_per_user} must be at least {LEAST_INTERACTIONS}: "
                "one each for train, valid and test"
            )


SECTIONS = ("datasets",)
READS = ("data/${dataset}/records/reviews", "data/${dataset}/records/items")
WRITES = (
    "data/${dataset}/sequences/users",
    "data/${dataset}/sequences/items",
    "data/${dataset}/sequences/interactions",
)


def run(params: Params, context: stage.Context) -> int:
    """Dedupe, keep the k-core, order by time, number and split the interactions."""
    from pipelines import sequence_tables

    return sequence_tables.write_sequences(params, context)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage from the command line."""
    return stage.main("sequences", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
