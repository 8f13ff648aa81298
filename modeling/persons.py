"""Whom to recommend to, and out of what: a user of the dataset or somebody new, the catalogue, the line's settings.

Enters: parameters, a user's key or item keys, the tables of `sequences`. Leaves: `Line`, `Person`, `Catalogue`.
Trade-off: keys are looked up in whole columns, which is seconds for the largest dump and needs no index beside it.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from features import rendering, schema
from features.datasets import Dataset
from features.errors import InputError, ParamsError
from features.params import build, load_yaml, nearest
from features.stage import Places
from features.tables import read_table

NEW_NAME = "a customer"
"""What stands in a prompt for the name of a person without a number (docs/decisions/0014-somebody-new.md)."""
_MANY_KEYS = 50_000  # beyond so many, near keys are looked for among those with the same first letters only
_COLUMNS = ("item_id", "item_key", "title")


@dataclass(frozen=True, kw_only=True)
class Line:
    """What is read of the parameters: where the dataset lies and how its prompts were written."""

    places: Places
    dataset: Dataset
    templates: Path | None
    max_history: int | None
    history_kept: str
    beam: int

    def cut(self, history: Sequence[int]) -> tuple[int, ...]:
        """The part of `history` that a prompt shows, oldest first."""
        most = len(history) if self.max_history is None else self.max_history
        return tuple(history[-most:] if self.history_kept == "newest" else history[:most])

    @property
    def photos(self) -> Path | None:
        """The dump's photo folder, or None."""
        return None if self.dataset.photos is None else self.places.raw / self.dataset.photos


@dataclass(frozen=True, kw_only=True)
class Person:
    """Whom to recommend to; `user_id` is None for somebody new."""

    label: str
    user_id: int | None
    number: int | None
    """What prompts write after user_."""
    name: str
    history: tuple[int, ...]
    """Item ids, oldest first."""


@dataclass(frozen=True)
class Catalogue:
    """The items by number and by key."""

    rows: Mapping[int, Mapping[str, Any]]
    ids: Mapping[str, int]

    @classmethod
    def load(cls, places: Places) -> "Catalogue":
        """The items of `sequences/items`."""
        rows = read_table(places.table("sequences/items"), schema.CATALOGUE, columns=_COLUMNS).to_pylist()
        return cls({row["item_id"]: row for row in rows}, {row["item_key"]: row["item_id"] for row in rows})

    def label(self, item_id: int) -> str:
        """The title, or the key where there is none."""
        return str(self.rows[item_id]["title"] or self.rows[item_id]["item_key"])


def load_line(params: Path, dataset: str | None = None) -> Line:
    """The line that `params` describes; with `dataset`, that of the profile run of that name where `params` is another.

    Raises:
        ParamsError: no such file or dataset, or a key that this command reads is absent.
    """
    whole = load_yaml(params)
    if dataset is not None and whole.get("dataset") != dataset:
        profile = params.parent / "work" / "profiles" / dataset / "params.yaml"
        if not profile.is_file():
            known = [
                str(whole.get("dataset")),
                *sorted(path.parent.name for path in profile.parents[1].glob("*/*.yaml")),
            ]
            raise ParamsError(
                f"dataset {dataset!r} without a run", nearest(dataset, sorted(set(known))),
                f"run `make run PROFILE={dataset}`, or name its parameters with --params",
            )  # fmt: skip
        whole, params = load_yaml(profile), profile
    name = str(whole.get("dataset"))
    try:
        prompts, entry = whole["prompts"], whole["datasets"][name]
        templates, most, kept = prompts["templates"], prompts["max_history"], prompts["history_kept"]
        beam = whole["evaluate"]["beam"]
    except KeyError as error:
        raise ParamsError(
            f"no key {error} in {params}", "the parameters of a line", "name them with --params"
        ) from error
    return Line(
        places=Places(dataset=name),
        dataset=build(Dataset, entry, where=f"datasets.{name}"),
        templates=None if templates is None else Path(templates),
        max_history=most,
        history_kept=kept,
        beam=beam,
    )


def known_person(places: Places, key: str, *, held_out: bool = False) -> Person:
    """The user with the dump's key `key`, with the complete history; `held_out` leaves the test item out.

    Raises:
        InputError: no such user; near keys are named.
    """
    users = read_table(places.table("sequences/users"), schema.USERS, columns=("user_id", "user_key", "name", "number"))
    row = users.filter(pc.equal(users["user_key"], key)).to_pylist()
    if not row:
        raise InputError(
            f"no user {key!r} in {places.table('sequences/users')}", near(key, users["user_key"].to_pylist()),
            "name a user of the table by its key, or give --history",
        )  # fmt: skip
    user_id, name = row[0]["user_id"], rendering.plain(row[0]["name"] or "") or key
    columns = ("user_id", "item_id", "split")
    rows = read_table(places.table("sequences/interactions"), schema.INTERACTIONS, columns=columns)
    own = rows.filter(pc.equal(rows["user_id"], user_id)).to_pylist()
    history = tuple(entry["item_id"] for entry in own if not (held_out and entry["split"] == "test"))
    return Person(label=f"user {key}", user_id=user_id, number=row[0]["number"], name=name, history=history)


def new_person(catalogue: Catalogue, keys: Sequence[str]) -> Person:
    """Somebody who bought the items `keys`, oldest first.

    Raises:
        InputError: an item is not in the catalogue (near keys are named), or there is none.
    """
    if not keys:
        raise InputError("an empty history", "at least one item key", "write --history KEY,KEY,...")
    for key in keys:
        if key not in catalogue.ids:
            raise InputError(
                f"no item {key!r} in the catalogue", near(key, catalogue.ids), "name items of sequences/items by key"
            )
    history = tuple(catalogue.ids[key] for key in keys)
    return Person(label="somebody new", user_id=None, number=None, name=NEW_NAME, history=history)


def near(key: str, known: Iterable[str]) -> str:
    """What to say is expected in place of an unknown key: the nearest known ones, or three that exist.

    Example:
        >>> near("B01", ["B02", "B19", "C7"])
        'B02 (the nearest known)'
    """
    keys = list(known)
    if len(keys) > _MANY_KEYS:
        keys = [other for other in keys if other[:3] == key[:3]] or keys[:3]
    found = difflib.get_close_matches(key, keys, n=3, cutoff=0.6)
    return f"{', '.join(found)} (the nearest known)" if found else f"a key such as {', '.join(sorted(keys)[:3])}"
