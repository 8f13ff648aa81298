"""Parameters of the stage `sequences`."""

from dataclasses import dataclass
from typing import Literal

from features.runtime.matching import MIN_MATCH_SHARE

LEAST_INTERACTIONS = 3


@dataclass(frozen=True, kw_only=True)
class Params:
    """Parameters of the stage `sequences`."""

    k_core: int = 5
    """Minimum number of interactions of every user and item; 0 keeps all."""
    duplicate_reviews: Literal["first", "last", "all"] = "first"
    """Which of a user's reviews of the same item at different times are kept."""
    tie_break: Literal["hash", "file"] = "hash"
    """Order of a user's interactions in the same second: by a seeded hash of the keys, or as in the file, by item."""
    numbering: Literal["random", "train_first", "p5"] = "random"
    """Item numbers: a seeded permutation; train items first; or by first appearance, which leaks the target."""
    user_numbers: Literal["random", "table"] = "random"
    """User numbers in prompts: a seeded permutation, or user_id. In published files neighbouring users share items, so
    the file order can leak the target (Beauty)."""
    previous_items: str | None = None
    """Path of an earlier `sequences/items` table, such as a champion's. Its items keep their numbers and new ones
    follow; items that left the k-core keep a row without interactions. Set by a retrain; null assigns new numbers."""
    previous_users: str | None = None
    """Path of an earlier `sequences/users` table. Its users keep their number in prompts, and `user_id` if it does not
    exceed the number of users; new ones follow in random order. Users that left the k-core are removed. Set by a
    retrain."""
    max_interactions_per_user: int | None = None
    """Maximum number of interactions per user, newest first; null keeps all."""
    min_match_share: float = MIN_MATCH_SHARE
    """Stop if both the share of the metadata rows that are used and the share of the items that have one are below it:
    metadata of another dataset. 0 disables the check."""
    engine: Literal["polars", "beam"] = "polars"
    """Execution engine: Polars in this process, or Beam on `beam.runner`; both write the same tables."""
    rows_per_bucket: int = 500_000
    """Reviews per bucket of users; does not affect the tables."""
    beam_rounds: int = 4
    """K-core rounds per Beam pipeline; if they do not suffice, another pipeline continues."""

    def __post_init__(self) -> None:
        if self.k_core < 0:
            raise ValueError(f"k_core = {self.k_core} must not be negative")
        if not 0 <= self.min_match_share <= 1:
            raise ValueError(f"min_match_share = {self.min_match_share} must lie between 0 and 1")
        for name in ("rows_per_bucket", "beam_rounds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least 1")
        if self.max_interactions_per_user is not None and self.max_interactions_per_user < LEAST_INTERACTIONS:
            raise ValueError(
                f"max_interactions_per_user = {self.max_interactions_per_user} must be at least {LEAST_INTERACTIONS}: "
                "one each for train, valid and test"
            )
