"""The k-core of interactions that lie in buckets: which of them stay, found in rounds over two small integers a row.

Enters: for each bucket the users and items of its interactions as places. Leaves: one mask a bucket.
Trade-off: a user's interactions lie in one bucket, so a bucket counts its users alone and only the counts of items
travel; memory is one number an item and one byte an interaction, whatever the number of buckets.
"""

from collections.abc import Callable

import numpy as np

Read = Callable[[int], tuple[np.ndarray, np.ndarray]]


def core_masks(read: Read, num_buckets: int, num_items: int, k: int) -> list[np.ndarray]:
    """(N,) Boolean of each bucket: the largest set in which every user and every item has at least `k` interactions.

    Interactions are dropped in rounds until a round drops none; the result does not depend on their order.

    Args:
        read: gives users (places from 0 within the bucket) and items (places from 0 among all) of a bucket.
        num_buckets: how many there are.
        num_items: places of items.
        k: interactions that each keeps at least.
    """
    masks = []
    counts = np.zeros(num_items, np.int64)
    for bucket in range(num_buckets):
        users, items = read(bucket)
        masks.append(np.ones(len(users), bool))
        counts += np.bincount(items, minlength=num_items)
    while True:
        kept, dropped = np.zeros(num_items, np.int64), 0
        for bucket, mask in enumerate(masks):
            users, items = read(bucket)
            num_users = int(users.max()) + 1 if len(users) else 0
            left = mask & (counts >= k)[items]
            left &= (np.bincount(users[left], minlength=num_users) >= k)[users]
            dropped += int(mask.sum() - left.sum())
            kept += np.bincount(items[left], minlength=num_items)
            masks[bucket] = left
        counts = kept
        if not dropped:
            return masks
