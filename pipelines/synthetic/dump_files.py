"""Writes the sample's world as the lines and photos of a dump, including faults.

Reads a `World`. Returns review lines, metadata lines and photos in file order.
Faults are taken from fixed lists of real ones, so that a test can count them.
"""

import datetime as dt
import html
import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from features.runtime.seeds import rng
from pipelines.synthetic import photos as sample_photos
from pipelines.synthetic import texts
from pipelines.synthetic.world import NUM_STYLES, Item, Purchase, World

_STATES: tuple[sample_photos.State, ...] = ("truncated", "text", "empty")


def review_lines(world: World, num_dirty: int, featureless_share: float, seed: int) -> list[bytes]:
    """The review file: one JSON object per line, by item and time, with `num_dirty` lines of each fault inserted.

    A share `featureless_share` of the reviews mentions no feature.
    """
    generator = rng(seed, "sample", "reviews")
    names = [
        f"{texts.name(generator)} {texts.name(generator)}" if generator.random() > 0.04 else None for _ in world.users
    ]
    ordered = sorted(
        world.purchases, key=lambda p: (world.items[p.item].key, p.timestamp, world.users[p.user].key, p.rating)
    )
    featureless = rng(seed, "sample", "silent").random(len(ordered)) < featureless_share
    records = [
        _review(world, purchase, names[purchase.user], bool(without_feature), generator)
        for purchase, without_feature in zip(ordered, featureless, strict=True)
    ]
    lines = [json.dumps(record).encode() for record in records]
    dirty = [fault for n in range(num_dirty) for fault in _faulty(records[n * 7 % len(records)])]
    dirty += [lines[int(place)] for place in generator.integers(0, len(lines), num_dirty * 4)]
    return _interspersed(lines, dirty, generator)


def _review(
    world: World, purchase: Purchase, name: str | None, featureless: bool, generator: np.random.Generator
) -> dict[str, Any]:
    item = world.items[purchase.item]
    headline, text = texts.review(
        item.category, item.strong, item.weak, purchase.rating, generator, featureless=featureless
    )
    when = dt.datetime.fromtimestamp(purchase.timestamp, dt.UTC)
    helpful = int(generator.poisson(0.7))
    record: dict[str, Any] = {"reviewerID": world.users[purchase.user].key, "asin": item.key}
    if name is not None:
        record["reviewerName"] = name
    record |= {
        "helpful": [helpful, helpful + int(generator.poisson(0.3))],
        "reviewText": text if generator.random() > 0.005 else "",
        "overall": float(purchase.rating),
        "summary": headline,
        "unixReviewTime": purchase.timestamp,
        "reviewTime": f"{when:%m} {when.day}, {when.year}",
    }
    return record


def _faulty(record: dict[str, Any]) -> list[bytes]:
    """One line per fault, all derived from `record`."""

    def without(*keys: str) -> dict[str, Any]:
        return {name: value for name, value in record.items() if name not in keys}

    def dumped(value: object) -> bytes:
        return json.dumps(value).encode()

    whole = dumped(record)
    return [
        whole[: len(whole) // 2],
        whole.replace(b'"overall":', b'"overall"'),
        dumped([record["reviewerID"], record["asin"]]),
        dumped(without("reviewerID")),
        dumped(without("asin")),
        dumped(without("overall")),
        dumped(record | {"overall": "five"}),
        dumped(record | {"overall": 0.0}),
        dumped(record | {"overall": 9.0}),
        dumped(without("unixReviewTime", "reviewTime")),
        dumped(record | {"unixReviewTime": "yesterday"}),
        whole.replace(b'"summary": "', b'"summary": "\xff\xfe'),
    ]


def metadata_lines(world: World, num_dirty: int, seed: int) -> list[bytes]:
    """The metadata file: one Python literal per line, by item; some items lack a title, some have no line."""
    generator = rng(seed, "sample", "metadata")
    brands = sorted({texts.name(generator) for _ in range(24)})
    keys = [item.key for item in world.items]
    records = [_metadata(item, brands, keys, generator) for item in sorted(world.items, key=lambda item: item.key)]
    lines = [repr(record).encode() for record in records if generator.random() > 0.02]
    first = records[0]
    dirty = [lines[int(place)] for place in generator.integers(0, len(lines), num_dirty * 2)]
    for number in range(num_dirty):
        line = lines[(number * 11 + 3) % len(lines)]
        dirty += [
            line[: len(line) * 2 // 3],
            repr(first).replace("'price': ", "'price': float('inf') or ").encode(),
            b"{'title': 'A line without its key'}",
        ]
    return _interspersed(lines, dirty, generator)


def _metadata(item: Item, brands: list[str], keys: list[str], generator: np.random.Generator) -> dict[str, Any]:
    brand = brands[int(generator.integers(len(brands)))]
    related = [keys[int(place)] for place in generator.integers(0, len(keys), 3)]
    path = list(texts.PATHS[item.category])
    record: dict[str, Any] = {"asin": item.key, "related": {"also_viewed": related}}
    record["categories"] = [path, [path[0], "New Arrivals"]] if generator.random() < 0.2 else [path]
    record["description"] = texts.description(item.category, brand, generator)
    if generator.random() > 0.02:
        record["title"] = texts.title(item.category, brand, generator)
    if generator.random() > 0.1:
        record["price"] = round(float(generator.lognormal(3.3, 0.6)), 2)
    if generator.random() > 0.1:
        record["brand"] = brand
    record["imUrl"] = f"http://images.example/{item.key}.jpg"
    record["salesRank"] = {html.unescape(path[1]): int(generator.integers(1, 100_000))}
    return record


def photos(
    world: World, pixels: int, missing_share: float, num_broken: int, seed: int
) -> list[tuple[str, bytes]]:  # fmt: skip
    """(file name, bytes) of every photo, by item key, including broken ones and two of unknown items."""
    chosen = photo_states(world, missing_share, num_broken, seed)
    members = []
    for place, (item, state) in enumerate(zip(world.items, chosen, strict=True)):
        if state == "missing":
            continue
        drawn = sample_photos.photo(item.category, item.style, NUM_STYLES, pixels, rng(seed, "sample", "photo", place))
        members.append((f"{item.key}.jpg", sample_photos.spoil(drawn, state)))
    for stray in ("B0NOSUCHIT", "B0OLDSTOCK"):
        members.append((f"{stray}.jpg", members[0][1]))
    return sorted(members)


def photo_states(world: World, missing_share: float, num_broken: int, seed: int) -> list[sample_photos.State]:
    """The state of the photo of each item (ok, missing or a kind of damage), in the order of `world.items`."""
    generator = rng(seed, "sample", "photo states")
    count = len(world.items)
    num_missing = round(missing_share * count)
    order = [int(place) for place in generator.permutation(count)[: num_missing + num_broken]]
    states: list[sample_photos.State] = ["ok"] * count
    for rank, place in enumerate(order):
        states[place] = "missing" if rank < num_missing else _STATES[rank % len(_STATES)]
    return states


def _interspersed(lines: Sequence[bytes], dirty: Sequence[bytes], generator: np.random.Generator) -> list[bytes]:
    """`lines` in order, with `dirty` inserted at random positions after the first line."""
    places = np.sort(generator.integers(1, len(lines) + 1, len(dirty)))
    shuffled = [dirty[int(place)] for place in generator.permutation(len(dirty))]
    mixed: list[bytes] = []
    start = 0
    for place, fault in zip(places, shuffled, strict=True):
        mixed += [*lines[start : int(place)], fault]
        start = int(place)
    return mixed + list(lines[start:])
