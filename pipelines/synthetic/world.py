"""The synthetic world behind the sample: users, items, and the process that generates purchases.

Returns a `World`: items, users and purchases, with ground truth that the dump does not contain.
Trade-off: a Markov chain over what photos show instead of recorded behaviour: the repository holds no personal data.

The planted structure:

* An item belongs to a cell (category, style). Its category is in its title and category path; its style shows only in
  its photo. Keys, titles, prices and texts are drawn independently of the style.
* A user has two favourite categories; a share `taste_fidelity` of the purchases is in them.
* The style of the next item is the successor of the style of the last one, with probability `style_fidelity`; the
  successor is a fixed cycle through all styles. The last photo thus determines the next style, whereas a model without
  photos would have to learn the style of each item from its few purchases.
* Within the cell, items are drawn with a mild popularity skew, never twice for a user.
* An item has a strong and a weak feature ("handle", "battery"), which good and bad reviews mention.
"""

from dataclasses import dataclass

import numpy as np

from features.runtime.seeds import rng
from pipelines.synthetic.config import Params

CATEGORIES = ("Headphones", "Backpacks", "Kettles", "Guitars", "Watches", "Lamps")
NUM_STYLES = 8
DAY_SECONDS = 86_400
FIRST_DAY = 15_300  # days since 1970: in November 2011
_KEY_LETTERS = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"))
_CORE = 5


@dataclass(frozen=True)
class Item:
    """An item and its ground truth.

    `strong` and `weak` are the indices of its best and worst feature in the category's list; `quality` shifts ratings.
    """

    key: str
    category: int
    style: int
    strong: int
    weak: int
    quality: float


@dataclass(frozen=True)
class User:
    """A user and the two categories they like."""

    key: str
    tastes: tuple[int, int]


@dataclass(frozen=True)
class Purchase:
    """User `user` bought item `item` (indices into the world's lists) at `timestamp` (seconds) and rated it."""

    user: int
    item: int
    timestamp: int
    rating: int


@dataclass(frozen=True)
class _Shop:
    """State shared by all users; `counts` are the purchases so far by item."""

    items: tuple[Item, ...]
    successor: tuple[int, ...]
    counts: np.ndarray
    params: Params


@dataclass(frozen=True)
class World:
    """Ground truth of the dump; `successor[s]` is the style that follows style s."""

    items: tuple[Item, ...]
    users: tuple[User, ...]
    purchases: tuple[Purchase, ...]
    successor: tuple[int, ...]


def plan(params: Params, seed: int) -> World:
    """Generates the world of a seed: items by cell, users, then the purchases of each user in time order."""
    successor = _cycle(seed)
    items = _items(params, seed)
    users = _users(params, seed)
    shop = _Shop(items, successor, np.zeros(len(items), dtype=np.int64), params)
    purchases: list[Purchase] = []
    for number in range(params.num_users):
        purchases += _history(number, users[number], shop, seed)
    purchases += _rare(params, items, len(users), seed)
    purchases += _repeats(params, items, purchases, seed)
    return World(items, users, tuple(purchases), successor)


def _cycle(seed: int) -> tuple[int, ...]:
    order = rng(seed, "sample", "cycle").permutation(NUM_STYLES)
    successor = np.empty(NUM_STYLES, dtype=np.int64)
    successor[order] = np.roll(order, -1)
    return tuple(int(style) for style in successor)


def _keys(count: int, prefix: str, length: int, generator: np.random.Generator) -> list[str]:
    keys: dict[str, None] = {}
    while len(keys) < count:
        keys[prefix + "".join(generator.choice(_KEY_LETTERS, length))] = None
    return list(keys)


def _items(params: Params, seed: int) -> tuple[Item, ...]:
    generator = rng(seed, "sample", "items")
    cells = [(c, s) for c in range(len(CATEGORIES)) for s in range(NUM_STYLES)] * params.items_per_cell
    cells.sort()
    cells += [
        (int(generator.integers(len(CATEGORIES))), int(generator.integers(NUM_STYLES)))
        for _ in range(params.num_rare_items)
    ]
    keys = _keys(len(cells), "B0", 8, generator)
    items = []
    for key, (category, style) in zip(keys, cells, strict=True):
        strong, weak = (int(feature) for feature in generator.permutation(5)[:2])
        items.append(Item(key, category, style, strong, weak, float(generator.normal(0, 0.5))))
    return tuple(items)


def _users(params: Params, seed: int) -> tuple[User, ...]:
    generator = rng(seed, "sample", "users")
    keys = _keys(params.num_users + params.num_rare_users, "A", 13, generator)
    users = []
    for key in keys:
        first, second = (int(category) for category in generator.permutation(len(CATEGORIES))[:2])
        users.append(User(key, (first, second)))
    return tuple(users)


def _history(number: int, user: User, shop: _Shop, seed: int) -> list[Purchase]:
    generator, params = rng(seed, "sample", "history", number), shop.params
    length = _CORE + int(generator.poisson(max(params.mean_interactions - _CORE, 0)))
    day = FIRST_DAY + int(generator.integers(700))
    style, owned, purchases = int(generator.integers(NUM_STYLES)), set[int](), []
    for _ in range(length):
        liked = generator.random() < params.taste_fidelity
        category = int(generator.choice(user.tastes)) if liked else int(generator.integers(len(CATEGORIES)))
        item = _draw(category, style, owned, shop, generator)
        owned.add(item)
        shop.counts[item] += 1
        purchases.append(Purchase(number, item, day * DAY_SECONDS, _stars(shop.items[item], generator)))
        day += 0 if generator.random() < 0.02 else 1 + int(generator.geometric(0.05))
        follows = generator.random() < params.style_fidelity
        style = shop.successor[style] if follows else int(generator.integers(NUM_STYLES))
    return purchases


def _draw(category: int, style: int, owned: set[int], shop: _Shop, generator: np.random.Generator) -> int:
    """Samples an item of the cell by popularity; items below the 5-core are three times as likely."""
    size = shop.params.items_per_cell
    for step in range(len(CATEGORIES)):  # falls back to the next category if the user owns the whole cell
        first = ((category + step) % len(CATEGORIES) * NUM_STYLES + style) * size
        cell = np.arange(first, first + size)
        weights = 1.0 / (1.0 + np.arange(size)) ** shop.params.popularity_skew
        weights = weights * np.where(shop.counts[cell] < _CORE, 3.0, 1.0) * ~np.isin(cell, list(owned))
        if weights.sum() > 0:
            return int(generator.choice(cell, p=weights / weights.sum()))
    return _draw(category, (style + 1) % NUM_STYLES, owned, shop, generator)


def _stars(item: Item, generator: np.random.Generator) -> int:
    return int(np.clip(np.rint(4.1 + item.quality + generator.normal(0, 0.9)), 1, 5))


def _rare(params: Params, items: tuple[Item, ...], num_users: int, seed: int) -> list[Purchase]:
    """Purchases of users with one to four purchases and of items with one or two, all removed by the 5-core."""
    generator = rng(seed, "sample", "rare")
    purchases = []
    for number in range(num_users - params.num_rare_users, num_users):
        for item in generator.choice(len(items), int(generator.integers(1, _CORE)), replace=False):
            day = FIRST_DAY + int(generator.integers(1000))
            purchases.append(Purchase(number, int(item), day * DAY_SECONDS, _stars(items[int(item)], generator)))
    for item in range(len(items) - params.num_rare_items, len(items)):
        for number in generator.choice(params.num_users, int(generator.integers(1, 3)), replace=False):
            day = FIRST_DAY + int(generator.integers(1000))
            purchases.append(Purchase(int(number), item, day * DAY_SECONDS, _stars(items[item], generator)))
    return sorted(set(purchases), key=lambda p: (p.user, p.timestamp, p.item))


def _repeats(params: Params, items: tuple[Item, ...], purchases: list[Purchase], seed: int) -> list[Purchase]:
    """Later reviews of existing (user, item) pairs."""
    generator = rng(seed, "sample", "repeats")
    chosen = generator.choice(len(purchases), min(params.num_duplicate_reviews, len(purchases)), replace=False)
    again = []
    for place in np.sort(chosen):
        p = purchases[int(place)]
        later = p.timestamp + DAY_SECONDS * int(generator.integers(3, 200))
        again.append(Purchase(p.user, p.item, later, _stars(items[p.item], generator)))
    return again
