"""Exact counts of a dump: users, items, interactions, cores, texts and titles.

Reads the dump once with the stage `records`, in a folder of its own below `work/`, which it removes.
Trade-off: a whole reading, at some hundred thousand lines per second, instead of an estimate from the beginning: the
beginning of a file sorted by item says nothing about its users.
"""

import logging
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from features.errors import InputError, VIP5Error
from features.runtime.datasets import Dataset
from features.runtime.matching import Matching, match_names
from features.runtime.params import build
from features.runtime.stage import Context
from features.vision import dataset_photos
from pipelines.parsing.config import Params
from pipelines.sequencing.transforms import splittable_core

log = logging.getLogger("vip5")
CORES = (5, 4, 3, 2)
RATED = ("ratings", "recbole")
"""Formats whose ratings may have any range."""
_INGEST = re.compile(r"(?: and bring it in again)? \(`\S+ -m flows\.ingest [^`]*`\)")
_ENTRY = re.compile(r"replace (.+?) or take it out of datasets\.\S+?\.metadata")
_OPTIONS = re.compile(r",? or (?:accept|set) .*")  # parameters of a profile
LARGE_BYTES = 200_000_000
LEAST_USERS = 20
LEAST_ITEMS = 10
MANY_USERS = 200
"""A core of so many users is taken even if most interactions are outside it."""


@dataclass(frozen=True, kw_only=True)
class Core:
    """The k-core: its users, items and interactions, and the fewest items that one of its users has not."""

    k: int
    users: int
    items: int
    interactions: int
    least_unseen: int

    @property
    def is_useful(self) -> bool:
        """Whether it can be split and ranked at all."""
        return self.users >= LEAST_USERS and self.items >= LEAST_ITEMS and self.least_unseen >= 2


@dataclass(frozen=True, kw_only=True)
class Counts:
    """What a dump holds.

    `metadata` says how the described items fit those of the core, `texts` counts reviews with a text, `titled` is
    the share of the items of the core with a title; `rating_range` is None without ratings, `photos` without photos.
    """

    interactions: int
    users: int
    items: int
    described: int
    texts: int
    titled: float
    rating_range: tuple[float, float] | None
    core: Core
    metadata: Matching
    photos: Matching | None = None


def count(name: str, entry: Mapping[str, Any], folder: Path, root: Path = Path()) -> Counts:
    """Reads the dump once and counts it.

    Args:
        name: The dataset's name.
        entry: Its entry of `datasets`.
        folder: Where its files lie.
        root: The repository root.

    Raises:
        VIP5Error: `records` cannot read the files.
        InputError: No k-core is large enough to train on.
    """
    work = root.resolve() / "work" / "first_look" / name
    shutil.rmtree(work, ignore_errors=True)
    try:
        _read(name, entry, folder, work)
        tables = work / "data" / name / "records"
        reviews, items = (pl.scan_parquet(tables / table / "*.parquet") for table in ("reviews", "items"))
        counts, keys = _counted(reviews, items)
        return replace(counts, photos=_photos(entry, folder, keys, tables / "items"))
    except VIP5Error as error:
        raise _shown(error, f"{work}/data/raw/{name}", folder) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _shown(error: VIP5Error, raw: str, folder: Path) -> VIP5Error:
    """The error with the user's folder and with the remedy that helps before there is a profile."""
    found, expected, action = (part.replace(raw, str(folder)) for part in error.args)
    plain = _ENTRY.sub(r"move \1 out of the folder", _OPTIONS.sub("", _INGEST.sub("", action)))
    return type(error)(found, expected, action if plain == action else f"{plain}, then run this command again")


def _read(name: str, entry: Mapping[str, Any], folder: Path, work: Path) -> None:
    """Runs `records` on links to the files."""
    from pipelines import records

    num_bytes = sum((folder / file).stat().st_size for file in entry["reviews"])
    if num_bytes > LARGE_BYTES:
        log.info("new: reading %.1f GB of reviews once to count them; this takes some minutes", num_bytes / 1e9)
    raw = work / "data" / "raw" / name
    raw.mkdir(parents=True)
    for file in (*entry["reviews"], *entry["metadata"]):
        (raw / file).symlink_to((folder / file).resolve())
    own = {key: value for key, value in entry.items() if key not in {"photos", "photo_keys", "vectors", "vector_keys"}}
    if entry["format"] in RATED:
        own["rating_range"] = [-1e6, 1e6]  # the range is what this reading looks for
    context = Context(dataset=name, root=work, seed=0, shared={"datasets": own, "beam": {}})
    records.run(Params(), context)


def _photos(entry: Mapping[str, Any], folder: Path, keys: list[str], items: Path) -> Matching | None:
    """How the photos fit the items of the core."""
    known = dataset_photos.known_items(items)
    store = dataset_photos.open_photos(folder, build(Dataset, entry, where="datasets"), keys, known)
    if store is None:
        return None
    return dataset_photos.photo_matching(store, keys, sum(store.find(key) is not None for key in keys), known)


def _counted(reviews: pl.LazyFrame, items: pl.LazyFrame) -> tuple[Counts, list[str]]:
    """The counts, and the item keys of the core."""
    whole = reviews.select(
        interactions=pl.len(), users=pl.col("user_key").n_unique(), items=pl.col("item_key").n_unique(),
        texts=pl.col("text").is_not_null().sum(), least=pl.col("rating").min(), most=pl.col("rating").max(),
    ).collect().row(0, named=True)  # fmt: skip
    pairs = reviews.select(user="user_key", item="item_key").unique().collect()
    core, kept = _best_core(pairs)
    titles = items.select("item_key", titled=pl.col("title").is_not_null()).collect()
    names = kept["item_key"].to_list()
    used = titles.join(kept, on="item_key", how="semi").height
    matching = match_names("metadata rows", titles["item_key"].to_list(), names, used=used)
    titled = kept.join(titles, on="item_key", how="left").select(pl.col("titled").fill_null(value=False).mean()).item()
    span = None if whole["least"] is None else (float(whole["least"]), float(whole["most"]))
    counts = Counts(
        interactions=whole["interactions"], users=whole["users"], items=whole["items"], described=titles.height,
        texts=whole["texts"], titled=float(titled or 0.0), rating_range=span, core=core, metadata=matching,
    )  # fmt: skip
    return counts, sorted(kept["item_key"].to_list())


def _best_core(pairs: pl.DataFrame) -> tuple[Core, pl.DataFrame]:
    """The core of the largest k that is useful and not only a splinter of the data, and its items.

    Raises:
        InputError: There is none.
    """
    cores = [(measured(left, k), left) for k in CORES for left in (splittable_core(pairs, k),)]
    useful = [(core, left) for core, left in cores if core.is_useful]
    large = [
        (core, left) for core, left in useful if core.users >= MANY_USERS or core.interactions >= 0.2 * pairs.height
    ]
    if useful:
        core, left = (large or useful)[0]
        return core, left.select(item_key="item").unique()
    found = [f"a {core.k}-core of {core.users} users and {core.items} items" for core, _ in cores]
    raise InputError(
        f"{pairs.height:,} pairs of a user and an item, with {', '.join(found)}",
        f"a core of at least {LEAST_USERS} users and {LEAST_ITEMS} items", "bring more interactions",
    )  # fmt: skip


def measured(pairs: pl.DataFrame, k: int) -> Core:
    """The counts of distinct pairs."""
    lengths = pairs.group_by("user").len()
    num_items = pairs["item"].n_unique()
    longest = int(lengths["len"].max() or 0)  # type: ignore[arg-type]
    return Core(k=k, users=lengths.height, items=num_items, interactions=pairs.height, least_unseen=num_items - longest)
