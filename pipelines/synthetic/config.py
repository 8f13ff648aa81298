"""Parameters of the stage `sample`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Params:
    """Size, structure and faults of the sample."""

    num_users: int = 800
    """Users with at least five purchases."""
    items_per_cell: int = 6
    """Items for each of the 6 categories and 8 styles."""
    mean_interactions: float = 7.5
    """Mean number of purchases per user, at least 5."""
    style_fidelity: float = 0.98
    """Probability that the next item's style is the successor of the last one's; otherwise it is uniform."""
    taste_fidelity: float = 0.95
    """Probability that a purchase is in one of the user's two categories; otherwise the category is uniform."""
    popularity_skew: float = 0.5
    """Exponent of the rank within a cell: 0 makes all items equally popular."""
    num_rare_users: int = 20
    """Users with fewer than five purchases, removed by the 5-core."""
    num_rare_items: int = 12
    """Items with one or two reviews, removed by the 5-core."""
    num_duplicate_reviews: int = 10
    """Additional later reviews of a user and item that already have one."""
    photo_pixels: int = 96
    """Width and height of a photo, in pixels."""
    missing_photo_share: float = 0.03
    """Share of the items without a photo."""
    num_broken_photos: int = 6
    """Photos that are truncated, text or empty."""
    featureless_review_share: float = 0.5
    """Share of the reviews that mention no feature, so that no explanation can be extracted."""
    num_dirty_lines: int = 3
    """Number of review lines per kind of fault."""

    def __post_init__(self) -> None:
        for name in ("style_fidelity", "taste_fidelity", "missing_photo_share", "featureless_review_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)} must lie between 0 and 1")
        if self.num_users < 1 or self.items_per_cell < 1 or self.photo_pixels < 16:
            raise ValueError("num_users and items_per_cell must be at least 1, photo_pixels at least 16")
        if self.mean_interactions < 5:
            raise ValueError(f"mean_interactions = {self.mean_interactions} must be at least 5")
        if min(self.num_rare_users, self.num_rare_items, self.num_duplicate_reviews, self.num_broken_photos) < 0:
            raise ValueError("counts must not be negative")
