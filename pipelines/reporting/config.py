"""Parameters of the stage `data_report`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Params:
    """Parameters of the stage `data_report`."""

    num_items: int = 96
    """Photos on the contact sheet, in all groups together."""
    num_groups: int = 12
    """Groups of near items that the contact sheet and the map show; 0 for none."""
    num_rejects: int = 24
    """Rejected photos shown, and examples of rejected lines shown."""
    num_users: int = 5
    """Sample sequences shown."""
    num_neighbours: int = 5
    """Nearest items in feature space shown beside an item."""
    num_queries: int = 10
    """Items whose neighbours are shown."""
    thumbnail: int = 112
    """Longer side of a thumbnail, in pixels."""

    def __post_init__(self) -> None:
        counts = (
            self.num_items,
            self.num_groups,
            self.num_rejects,
            self.num_users,
            self.num_neighbours,
            self.num_queries,
        )
        if min(counts) < 0 or not 16 <= self.thumbnail <= 1024:
            raise ValueError("counts must not be negative, and thumbnail must lie in 16 to 1024")
