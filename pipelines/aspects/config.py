"""Parameters of the stage `explanations`."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Params:
    """Parameters of the stage `explanations`."""

    per_review: int = 1
    """Maximum number of sentences per review, best first."""
    split: Literal["interaction", "independent"] = "interaction"
    """Split of a sentence: that of its interaction, or an independent seeded 8:1:1 split as published, which leaks."""
    min_words: int = 4
    """Minimum number of words in a sentence."""
    max_words: int = 30
    """Maximum number of words in a sentence; longer ones are first split into clauses."""
    min_reviews: int = 3
    """Minimum number of train reviews that contain an aspect noun."""
    min_review_share: float = 0.002
    """Minimum share of train reviews that contain an aspect noun, 0 to 1."""
    min_opinion_share: float = 0.2
    """Minimum share of the train reviews with the noun that have an opinion on it, 0 to 1."""
    max_title_share: float = 0.5
    """Maximum share of the train reviews with the noun whose item title contains it, 0 to 1."""
    min_score: float = 2.5
    """Minimum evidence score of a sentence (see pipelines/aspects/extraction.py: 2 to 3 for the pattern, up to 2 for
    agreement and length)."""
    reviews_per_unit: int = 5000
    """Reviews per unit of work."""

    def __post_init__(self) -> None:
        if not 1 <= self.min_words <= self.max_words:
            raise ValueError(f"min_words = {self.min_words} and max_words = {self.max_words} are not 1 <= min <= max")
        for name in ("per_review", "min_reviews", "reviews_per_unit"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} is below 1")
        for name in ("min_review_share", "min_opinion_share", "max_title_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)} is not a share from 0 to 1")
