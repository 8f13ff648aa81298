"""What is known of every user when the test item is asked for: the complete train and valid items, in time order.

Enters: `sequences/interactions`. Leaves: the known items by user, and the item held out.
Trade-off: flat arrays instead of a list a user, so that masking seen items is one assignment a batch.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from modeling.data.ragged import IntArray, Ragged, offsets_of


@dataclass(frozen=True, kw_only=True)
class Histories:
    """Items known before the test item, by user_id; row 0 is empty because users count from 1."""

    known: Ragged
    """Row u: the train and valid items of user u, oldest first, whole (prompts may show fewer)."""
    train: Ragged
    """Row u: the train items of user u, oldest first."""
    targets: npt.NDArray[np.int64]
    """(U + 1,) the test item of user u; 0 where there is none."""

    @property
    def num_users(self) -> int:
        """Users of the dataset."""
        return len(self.targets) - 1

    def seen(self, user_ids: IntArray, num_items: int) -> npt.NDArray[np.bool_]:
        """(B, I) whether item i + 1 is among the known items of each user."""
        rows = self.known.take(user_ids)
        mask = np.zeros((len(user_ids), num_items), np.bool_)
        mask[rows.owners, rows.values - 1] = True
        return mask


def known_before_test(interactions: pa.Table) -> Histories:
    """The complete histories of `sequences/interactions` (sorted by user and position), test items set aside."""
    users = interactions["user_id"].to_numpy().astype(np.int64)
    items = interactions["item_id"].to_numpy().astype(np.int64)
    splits = interactions["split"]
    train, test = (pc.equal(splits, name).to_numpy(zero_copy_only=False) for name in ("train", "test"))
    num_users = int(users.max(initial=0))
    targets = np.zeros(num_users + 1, np.int64)
    targets[users[test]] = items[test]

    def rows(mask: npt.NDArray[np.bool_]) -> Ragged:
        return Ragged(items[mask], offsets_of(np.bincount(users[mask], minlength=num_users + 1)))

    return Histories(known=rows(~test), train=rows(train), targets=targets)
