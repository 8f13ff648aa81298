"""Whom to recommend to, and out of what: a known or a cold-start user, the catalogue, the settings of the model.

Enters: parameters, a user's key or item keys, the champion or the last trained model, the tables of `sequences`.
Leaves: `Line`, `Person`, `Catalogue`.
Trade-off: keys are looked up in whole columns, which is seconds for the largest dump and needs no index beside it.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from features import schema
from features.errors import InputError, ParamsError
from features.prompts import rendering
from features.runtime.datasets import Dataset
from features.runtime.params import build, load_yaml, nearest
from features.runtime.stage import Places
from features.store.tables import read_table
from modeling.serving import promoted_model
from modeling.serving.promoted_model import Champion

NEW_NAME = "a customer"
"""What stands in a prompt for the name of a person without a number (docs/decisions/0014-somebody-new.md)."""
_MANY_KEYS = 50_000  # beyond so many, near keys are looked for among those with the same first letters only
_COLUMNS = ("item_id", "item_key", "title")


@dataclass(frozen=True, kw_only=True)
class Line:
    """Which model answers, where its tables lie, and how its prompts were written."""

    places: Places
    """The workspace, or the sealed folder of the champion, which has the same layout."""
    champion: Champion | None
    """None: the last trained model of the workspace answers."""
    photos: Path | None
    """The dump's photo folder, or None."""
    templates: Path | None
    max_history: int | None
    history_kept: str
    beam: int

    def cut(self, history: Sequence[int]) -> tuple[int, ...]:
        """The part of `history` that a prompt shows, oldest first."""
        most = len(history) if self.max_history is None else self.max_history
        return tuple(history[-most:] if self.history_kept == "newest" else history[:most])

    @cached_property
    def model(self) -> str:
        """Which model answers, in words.

        Example: "champion 5e8c43498de2f07e, promoted 2026-11-28 19:30 UTC"
        """
        if self.champion is None:
            return promoted_model.last_trained(self.places.dataset)
        return f"champion {self.champion.digest}, promoted {self.champion.promoted_at}"


@dataclass(frozen=True, kw_only=True)
class Person:
    """Whom to recommend to; `user_id` is None for a cold-start user."""

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


def load_line(params: Path, dataset: str | None = None, *, challenger: bool = False) -> Line:
    """The champion of a dataset, with its own parameters and tables; the last trained model where there is none.

    Args:
        params: names the dataset, and describes the pipeline of the last trained model.
        dataset: another one, which a profile was run for or which has a champion.
        challenger: the last trained model even where there is a champion.

    Raises:
        ParamsError: no such file or dataset, or a key that this command reads is absent.
        ModelError: the champion is damaged.
    """
    name = dataset or str(load_yaml(params).get("dataset"))
    champion = None if challenger else promoted_model.current(name)
    if champion is not None:
        return _line(champion.folder / "params.yaml", name, champion)
    return _line(params if dataset is None else _params_of(dataset, params), name, None)


def _params_of(dataset: str, params: Path) -> Path:
    """`params` where it is about `dataset`, else the parameters that its profile was run with."""
    own = str(load_yaml(params).get("dataset"))
    profile = params.parent / "work" / "profiles" / dataset / "params.yaml"
    if own == dataset or profile.is_file():
        return params if own == dataset else profile
    known = {own, *(path.parent.name for path in profile.parents[1].glob("*/params.yaml"))}
    known |= {path.parent.name for path in Path("models").glob("*/champion.json")}
    raise ParamsError(
        f"dataset {dataset!r} without a run", nearest(dataset, sorted(known)),
        f"run `make run PROFILE={dataset}`, or name its parameters with --params",
    )  # fmt: skip


def _line(params: Path, name: str, champion: Champion | None) -> Line:
    whole = load_yaml(params)
    try:
        prompts, entry = whole["prompts"], build(Dataset, whole["datasets"][name], where=f"datasets.{name}")
        templates, most, kept = prompts["templates"], prompts["max_history"], prompts["history_kept"]
        beam = whole["evaluate"]["beam"]
    except KeyError as error:
        raise ParamsError(
            f"no key {error} in {params}", "the parameters of a pipeline", "name them with --params"
        ) from error
    sealed = None if champion is None else champion.folder / promoted_model.TEMPLATES
    if sealed is not None and sealed.is_file():
        templates = sealed
    return Line(
        places=Places(dataset=name) if champion is None else champion.places,
        champion=champion,
        photos=None if entry.photos is None else Places(dataset=name).raw / entry.photos,
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
        newer = (
            ", or ask the last trained model by --challenger"
            if (places.root / promoted_model.MANIFEST).is_file()
            else ""
        )
        raise InputError(
            f"no user {key!r} in {places.table('sequences/users')}", near(key, users["user_key"].to_pylist()),
            f"name a user of the table by its key, or give --history{newer}",
        )  # fmt: skip
    user_id, name = row[0]["user_id"], rendering.plain(row[0]["name"] or "") or key
    columns = ("user_id", "item_id", "split")
    rows = read_table(places.table("sequences/interactions"), schema.INTERACTIONS, columns=columns)
    own = rows.filter(pc.equal(rows["user_id"], user_id)).to_pylist()
    history = tuple(entry["item_id"] for entry in own if not (held_out and entry["split"] == "test"))
    return Person(label=f"user {key}", user_id=user_id, number=row[0]["number"], name=name, history=history)


def new_person(catalogue: Catalogue, keys: Sequence[str]) -> Person:
    """A cold-start user, who bought the items `keys`, oldest first.

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
    return Person(label="a cold-start user", user_id=None, number=None, name=NEW_NAME, history=history)


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
