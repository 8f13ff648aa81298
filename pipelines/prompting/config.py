"""Parameters of the stage `prompts`."""

from dataclasses import asdict, dataclass
from typing import Literal

from features.prompts.config import HistoryParams


@dataclass(frozen=True, kw_only=True)
class YesNoShare:
    """Share of yes/no prompts among the training draws; null samples uniformly over the family's prompts."""

    sequential: float | None = 0.25
    """Share of A-7 and A-8, 0 to 1. Published: 2 of 8."""
    direct: float | None = 0.571
    """Share of B-1 to B-4, 0 to 1. Published: 4 of 7."""

    def __post_init__(self) -> None:
        for name, share in asdict(self).items():
            if share is not None and not 0 <= share <= 1:
                raise ValueError(f"{name} = {share} is not a share from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class Params(HistoryParams):
    """Parameters of the stage `prompts`."""

    rounds: int = 1
    """Number of independent draws of the training tables; epoch e reads round e modulo rounds."""
    evaluated: tuple[str, ...] = ("A-3", "A-9", "B-5", "B-8", "C-3", "C-12")
    """Prompts in the test tables; the valid tables contain those that are not held out."""
    max_valid_users: int | None = None
    """Maximum number of users in the valid tables, sampled by the seed; null for all."""
    max_test_users: int | None = None
    """Maximum number of users in the test tables, sampled by the seed; null for all."""
    sequential: Literal["all_positions", "last_three"] = "all_positions"
    """Training targets: every training item but the first, or samples of the last three as published."""
    sequential_per_user: int = 10
    """Draws per user and round for last_three."""
    direct_per_user: int = 4
    """Direct draws per user and round. Published: 10."""
    direct_variants: tuple[Literal["published", "history"], ...] = ("published", "history")
    """Variants of the direct prompts: without and with the history. Training samples them evenly; test uses all."""
    num_candidates: int = 100
    """Candidates per training prompt, including the target; valid and test use the table `candidates`."""
    yes_no_share: YesNoShare = YesNoShare()
    """Share of yes/no prompts among the training draws."""
    max_language_rows: int | None = 20_000
    """Maximum number of sentences in the table train/language per round, sampled by the seed; null for all. 0 leaves
    the table empty, titles too."""
    titles_per_item: int = 1
    """Rows of train/language per item and round that ask for its title."""
    max_title_words: int | None = 24
    """Maximum number of words of a title or headline; null for all."""
    rows_per_part: int = 20_000
    """Rows per unit of work and Parquet part."""

    def __post_init__(self) -> None:
        for name in ("rounds", "sequential_per_user", "rows_per_part"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} is below 1")
        for name in ("max_history", "max_title_words", "max_valid_users", "max_test_users"):
            if getattr(self, name) is not None and getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} is below 1 (null means no limit)")
        if min(self.max_language_rows or 0, self.titles_per_item) < 0:
            raise ValueError("max_language_rows and titles_per_item must be at least 0")
        if self.direct_per_user < 0 or self.num_candidates < 2:
            raise ValueError("direct_per_user must be at least 0 and num_candidates at least 2")
        if not self.direct_variants or len(set(self.direct_variants)) != len(self.direct_variants):
            raise ValueError(f"direct_variants = {list(self.direct_variants)} is empty or repeats one")
