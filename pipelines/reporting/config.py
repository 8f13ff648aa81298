"""Parameters of the stage `data_report`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Params:
    """Parameters of the stage `data_report`."""

    num_items: int = 96
    """Total number of photos on the contact sheet."""
    num_groups: int = 12
    """Number of item clusters on the contact sheet and the map; 0 for none."""
    num_rejects: int = 24
    """Number of rejected photos and of rejected lines shown."""
    num_users: int = 5
    """Number of sample sequences shown."""
    num_neighbours: int = 5
    """Number of nearest items in feature space shown per query."""
    num_queries: int = 10
    """Number of random items whose neighbours are shown."""
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
