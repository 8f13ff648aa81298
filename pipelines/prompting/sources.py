"""Inputs of the prompts: sequences, item texts, names, candidates and explanations as arrays indexed by id.

Reads the tables of one dataset. Returns one `Sources` value, loaded once per worker process and shared by its units.
Trade-off: everything is held in memory, so that a row costs only look-ups: 4 bytes per interaction, 800 per user (two
lists of 99 negatives) and the texts of names, titles, explanations and sampled sentences.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from features import schema
from features.errors import TableError
from features.prompts import rendering
from features.runtime.seeds import rng
from features.runtime.stage import Places
from features.store.tables import input_digest, read_table

TABLES = {
    "sequences/users": schema.USERS,
    "sequences/items": schema.CATALOGUE,
    "sequences/interactions": schema.INTERACTIONS,
    "explanations": schema.EXPLANATIONS,
    "sentences": schema.SENTENCES,
    "candidates": schema.CANDIDATES,
    "identifiers": schema.IDENTIFIERS,
}


@dataclass(frozen=True)
class Ragged:
    """Arrays of varying length by id from 0: `values[starts[i] : ends[i]]`, empty for ids without values."""

    values: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def __getitem__(self, index: int) -> np.ndarray:
        run: np.ndarray = self.values[self.starts[index] : self.ends[index]]
        return run

    def lengths(self) -> np.ndarray:
        """Length of each array, int64 (ids,)."""
        lengths: np.ndarray = self.ends - self.starts
        return lengths


@dataclass(frozen=True, kw_only=True, slots=True)
class Explanation:
    """One row of the explanations table, ready for slots."""

    item_id: int
    rating: float
    headline: str
    feature: str
    sentence: str


@dataclass(frozen=True, kw_only=True)
class Explanations:
    """The explanations of one split as Arrow columns; converted to `Explanation`s per user on access."""

    columns: Mapping[str, pa.Array]
    bounds: np.ndarray
    max_words: int | None

    @classmethod
    def of(cls, table: pa.Table, split: str, num_users: int, max_words: int | None) -> "Explanations":
        """Selects `split` from the explanations table, which is sorted by user."""
        rows = table.filter(pc.equal(table["split"], split))
        bounds = np.searchsorted(rows["user_id"].to_numpy(), np.arange(num_users + 2))
        names = [field.name for field in fields(Explanation)]
        return cls(columns={name: rows[name].combine_chunks() for name in names}, bounds=bounds, max_words=max_words)

    @classmethod
    def of_sentences(
        cls, table: pa.Table, num_users: int, *, max_rows: int | None, max_words: int | None, seed: int
    ) -> "Explanations":
        """At most `max_rows` rows of the table `sentences`, sampled by the seed; their word is the feature."""
        if max_rows is not None and max_rows < table.num_rows:
            table = table.take(np.sort(rng(seed, "prompts", "sentences").permutation(table.num_rows)[:max_rows]))
        rows = table.rename_columns({"word": "feature"})
        rows = rows.append_column("headline", pa.nulls(rows.num_rows, pa.string()))
        rows = rows.append_column("split", pa.array(["train"] * rows.num_rows, pa.string()))
        return cls.of(rows, "train", num_users, max_words)

    def __getitem__(self, user_id: int) -> list[Explanation]:
        start, stop = self.bounds[user_id : user_id + 2].tolist()
        values = [column.slice(start, stop - start).to_pylist() for column in self.columns.values()]
        return [
            Explanation(
                item_id=item_id,
                rating=rating,
                headline=_short(headline, self.max_words) or rendering.NO_HEADLINE,
                feature=rendering.plain(feature),
                sentence=rendering.plain(sentence),
            )
            for item_id, rating, headline, feature, sentence in zip(*values, strict=True)
        ]

    def lengths(self) -> np.ndarray:
        """Number of explanations by user id, int64 (num_users + 1,)."""
        return np.diff(self.bounds)


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Texts and ids by user id and item id (index 0 is unused).

    `numbers[user_id]` is the user's number in prompts. `sequences[user_id]` lists item ids in time order; the last is
    the test item, the second to last the valid item. `negatives[split][user_id]` are the stored candidates.
    `sentences[user_id]` are the sampled sentences of the user; `titled[user_id]` are the items whose title the language
    rows of this user ask for: the user is the first who bought the item in train, or user 1.
    """

    num_items: int
    sequences: Ragged
    names: Sequence[str]
    numbers: Sequence[str]
    identifiers: Sequence[str]
    titles: Sequence[str]
    photo: str
    items_with_photo: Sequence[str]
    negatives: Mapping[str, Ragged]
    explanations: Mapping[str, Explanations]
    sentences: Explanations
    titled: Ragged

    @property
    def num_users(self) -> int:
        """Number of users; ids run from 1 to it."""
        return len(self.sequences.starts) - 1

    def has_title(self, item_id: int) -> bool:
        """Whether the item has a title."""
        return self.titles[item_id] != rendering.UNKNOWN_TITLE

    def lengths(self) -> np.ndarray:
        """Number of interactions by user id, shape (num_users + 1,)."""
        return self.sequences.lengths()


def digests(places: Places) -> tuple[str, ...]:
    """The digests of the tables that `load_sources` reads, for its cache key.

    Raises:
        TableError: A table is missing.
    """
    return tuple(input_digest(places.table(name)) for name in TABLES)


@lru_cache(maxsize=1)
def load_sources(
    places: Places,
    *,
    num_visual_tokens: int,
    max_title_words: int | None,
    max_language_rows: int | None,
    seed: int,
    input_digests: tuple[str, ...],  # noqa: ARG001 - only part of the cache key, so that changed tables are read again
) -> Sources:
    """Reads the tables of one dataset; cached by their digests. The seed samples at most `max_language_rows`."""
    tables = {name: read_table(places.table(name), table) for name, table in TABLES.items()}
    num_users, num_items = tables["sequences/users"].num_rows, tables["sequences/items"].num_rows
    photo = rendering.photo(num_visual_tokens)
    identifiers = _by_id(tables["identifiers"], "item_id", "text", num_items, "identifiers")
    found = _by_id(tables["sequences/items"], "item_id", "title", num_items, "sequences/items")
    titles = [_short(title, max_title_words) or rendering.UNKNOWN_TITLE for title in found]
    return Sources(
        num_items=num_items,
        sequences=_sequences(tables["sequences/interactions"], num_users),
        names=_names(tables["sequences/users"], num_users),
        numbers=["", *map(str, tables["sequences/users"]["number"].to_pylist())],
        identifiers=[text or "" for text in identifiers],
        titles=titles,
        photo=photo,
        items_with_photo=[rendering.item_with_photo(text or "", photo) for text in identifiers],
        negatives=_negatives(tables["candidates"], num_users),
        explanations={
            split: Explanations.of(tables["explanations"], split, num_users, max_title_words) for split in schema.SPLITS
        },
        sentences=Explanations.of_sentences(
            tables["sentences"], num_users, max_rows=max_language_rows, max_words=max_title_words, seed=seed
        ),
        titled=_titled(tables["sequences/interactions"], titles, num_users),
    )


def _short(text: str | None, max_words: int | None) -> str:
    words = rendering.plain(text or "").split(" ")
    return " ".join(words if max_words is None else words[:max_words])


def _by_id(table: pa.Table, key: str, column: str, count: int, name: str) -> list[str | None]:
    ids = table[key].to_numpy()
    if len(ids) != count or (count and (ids[0] != 1 or ids[-1] != count)):
        raise TableError(
            f"{len(ids)} rows of {name}, {key} up to {max(ids, default=0)}",
            f"{key} 1 to {count}",
            "run `.venv/bin/dvc repro`",
        )
    return [None, *table[column].to_pylist()]


def _sequences(interactions: pa.Table, num_users: int) -> Ragged:
    users = interactions["user_id"].to_numpy()
    bounds = np.searchsorted(users, np.arange(num_users + 2))
    return Ragged(interactions["item_id"].to_numpy(), bounds[:-1], bounds[1:])


def _titled(interactions: pa.Table, titles: Sequence[str], num_users: int) -> Ragged:
    """The items with a title by the first user who bought them in train; items that nobody did belong to user 1."""
    train = interactions.filter(pc.equal(interactions["split"], "train"))
    items, first = np.unique(train["item_id"].to_numpy(), return_index=True)  # rows are in the order of users
    owners = np.ones(len(titles), dtype=np.int64)
    owners[items] = train["user_id"].to_numpy()[first]
    named = np.array([n for n, title in enumerate(titles) if n and title != rendering.UNKNOWN_TITLE], dtype=np.int64)
    ordered = named[np.argsort(owners[named], kind="stable")]
    bounds = np.searchsorted(owners[ordered], np.arange(num_users + 2))
    return Ragged(ordered, bounds[:-1], bounds[1:])


def _names(users: pa.Table, num_users: int) -> list[str]:
    names = _by_id(users, "user_id", "name", num_users, "sequences/users")
    keys = [None, *users["user_key"].to_pylist()]
    return [rendering.shown_name(name, key or "") for name, key in zip(names, keys, strict=True)]


def _negatives(table: pa.Table, num_users: int) -> dict[str, Ragged]:
    """The stored negatives of every user by split; bounds are -1 for a user without a row."""
    by_split = {}
    for split in ("valid", "test"):
        rows = table.filter(pc.equal(table["split"], split))
        lists = rows["item_ids"].cast(pa.large_list(schema.IDS.value_field)).combine_chunks()
        starts, ends = (np.full(num_users + 1, -1, dtype=np.int64) for _ in range(2))
        users, offsets = rows["user_id"].to_numpy(), lists.offsets.to_numpy()
        starts[users], ends[users] = offsets[:-1], offsets[1:]
        by_split[split] = Ragged(lists.values.to_numpy(), starts, ends)
    return by_split
