"""K-core of bucketed interactions, computed in rounds over two small integers per row.

Reads, for each bucket, the users and items of its interactions as indices. Returns one mask per bucket.
Trade-off: all interactions of a user are in one bucket, so each bucket counts its own users and only item counts are
shared. Memory is one number per item and one byte per interaction, independent of the number of buckets.
"""

from collections.abc import Callable

import numpy as np

Read = Callable[[int], tuple[np.ndarray, np.ndarray]]


def core_masks(read: Read, num_buckets: int, num_items: int, k: int) -> list[np.ndarray]:
    """Boolean masks (N,) per bucket of the largest set in which every user and item has at least `k` interactions.

    Interactions are dropped in rounds until a round drops none; the result does not depend on their order.

    Args:
        read: Returns the users (indices from 0 within the bucket) and items (global indices from 0) of a bucket.
        num_buckets: Number of buckets.
        num_items: Number of item indices.
        k: Minimum number of interactions of each user and item.
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
