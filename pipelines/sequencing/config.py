"""Parameters of the stage `sequences`."""

from dataclasses import dataclass
from typing import Literal

LEAST_INTERACTIONS = 3


@dataclass(frozen=True, kw_only=True)
class Params:
    """Which interactions count, in which order, under which numbers."""

    k_core: int = 5
    """Interactions that every user and every item keeps at least; 0 keeps all."""
    duplicate_reviews: Literal["first", "last", "all"] = "first"
    """Which of a user's reviews of one item at different times count."""
    tie_break: Literal["hash", "file"] = "hash"
    """Order of a user's interactions of the same second: by a seeded hash of the keys, or as in the file, by item."""
    numbering: Literal["random", "train_first", "p5"] = "random"
    """Item numbers: seeded permutation; train split first; or by first appearance, which leaks the answer."""
    user_numbers: Literal["random", "table"] = "random"
    """What prompts write for a user: a number drawn by the seed, or user_id. The published order of users is that of a
    file in which neighbours share items, so their numbers can tell the answer (Beauty)."""
    previous_items: str | None = None
    """An earlier `sequences/items`, such as a champion's: its items keep their numbers, new ones follow, and one that
    has left the k-core keeps its row without interactions. A retrain sets it; null numbers afresh."""
    previous_users: str | None = None
    """An earlier `sequences/users`: its users keep what prompts write for them, and `user_id` while there are as many
    users; new ones follow in drawn order. One that has left the k-core leaves no row. A retrain sets it."""
    max_interactions_per_user: int | None = None
    """Only the newest so many interactions of a user; null keeps all."""
    engine: Literal["polars", "beam"] = "polars"
    """What does it: this process, or Beam workers where `beam.runner` says; both write the same tables."""
    rows_per_bucket: int = 500_000
    """Reviews of the users that are handled together; the tables do not depend on it."""
    beam_rounds: int = 4
    """Rounds of the k-core in one Beam pipeline; where they do not suffice another one goes on from what is left."""

    def __post_init__(self) -> None:
        if self.k_core < 0:
            raise ValueError(f"k_core = {self.k_core} must not be negative")
        for name in ("rows_per_bucket", "beam_rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least 1")
        if self.max_interactions_per_user is not None and self.max_interactions_per_user < LEAST_INTERACTIONS:
            raise ValueError(
                f"max_interactions_per_user = {self.max_interactions_per_user} must be at least {LEAST_INTERACTIONS}: "
                "one each for train, valid and test"
            )
