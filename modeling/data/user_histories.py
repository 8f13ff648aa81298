"""User histories at test time: all train and valid items in time order, and the held-out test item.

Reads `sequences/interactions`; returns ragged arrays, so that seen items are masked with one assignment per batch.
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int, Int64

from modeling.data.ragged import Ragged, offsets_of


@dataclass(frozen=True, kw_only=True)
class UserHistories:
    """Items known before the test item, indexed by user_id; row 0 is empty because user ids start at 1."""

    known: Ragged
    """Row u holds all train and valid items of user u, oldest first; prompts may contain fewer."""
    train: Ragged
    """Row u holds the train items of user u, oldest first."""
    targets: Int64[np.ndarray, "N"]
    """Test item of user u; 0 if there is none."""

    @property
    def num_users(self) -> int:
        """Number of users."""
        return len(self.targets) - 1

    def seen(self, user_ids: Int[np.ndarray, "B"], num_items: int) -> Bool[np.ndarray, "B {num_items}"]:
        """Whether each user knows item i + 1."""
        rows = self.known.take(user_ids)
        mask = np.zeros((len(user_ids), num_items), np.bool_)
        mask[rows.owners, rows.values - 1] = True
        return mask


def known_before_test(interactions: pa.Table) -> UserHistories:
    """Builds the histories from `sequences/interactions`, which is sorted by user and position."""
    users = interactions["user_id"].to_numpy().astype(np.int64)
    items = interactions["item_id"].to_numpy().astype(np.int64)
    splits = interactions["split"]
    train, test = (pc.equal(splits, name).to_numpy(zero_copy_only=False) for name in ("train", "test"))
    num_users = int(users.max(initial=0))
    targets = np.zeros(num_users + 1, np.int64)
    targets[users[test]] = items[test]

    def rows(mask: Bool[np.ndarray, "N"]) -> Ragged:
        return Ragged(items[mask], offsets_of(np.bincount(users[mask], minlength=num_users + 1)))

    return UserHistories(known=rows(~test), train=rows(train), targets=targets)
