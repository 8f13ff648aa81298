"""Resolves a recommendation request: a known or cold-start user, the catalogue, the model and its settings.

Reads parameters, a user key or item keys, the champion or the last trained model, and the tables of `sequences`;
returns `PipelineSettings`, `RequestUser` and `Catalogue`. Keys are looked up by scanning whole columns, which takes
seconds for the largest dump.
"""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from features import schema
from features.errors import InputError, ParamsError
from features.prompts import rendering
from features.prompts.config import HistoryParams
from features.runtime.datasets import Dataset
from features.runtime.names import checked_name
from features.runtime.params import build, load_params, nearest
from features.runtime.stage import Places
from features.store.tables import read_table
from modeling.config.evaluate import Params
from modeling.serving import promoted_model
from modeling.serving.promoted_model import Champion

COLD_START_NAME = "a customer"
"""Name of a cold-start user in prompts (decision 0014)."""
_MANY_KEYS = 50_000  # above this, similar keys are searched only among those with the same first three letters
_COLUMNS = ("item_id", "item_key", "title")
_SEARCH = ("beam", "tokens_per_batch")  # keys read from `evaluate`; a champion may be sealed with keys unknown today


@dataclass(frozen=True, kw_only=True)
class PipelineSettings:
    """The model that answers, its tables, and the parameters its prompts were rendered with."""

    places: Places
    """The workspace, or the champion's sealed folder, which has the same layout."""
    champion: Champion | None
    """None: the last trained model of the workspace."""
    photos: Path | None
    """Photo folder of the dump, or None."""
    photo_keys: Path | None
    """Table of photo name and item key, or None."""
    templates: Path | None
    max_history: int | None
    history_kept: str
    evaluate: Params
    """The search of `evaluate`; all parameters that do not affect a recommendation have their defaults."""

    def shown_history(self, history: Sequence[int]) -> tuple[int, ...]:
        """Returns the part of `history` that a prompt shows, oldest first."""
        most = len(history) if self.max_history is None else self.max_history
        return tuple(history[-most:] if self.history_kept == "newest" else history[:most])

    @cached_property
    def model(self) -> str:
        """A description of the model that answers.

        Example: "champion 5e8c43498de2f07e, promoted 2026-11-28 19:30 UTC"
        """
        if self.champion is None:
            return promoted_model.last_trained(self.places.dataset)
        return f"champion {self.champion.digest}, promoted {self.champion.promoted_at}"


@dataclass(frozen=True, kw_only=True)
class RequestUser:
    """The user of a request; `user_id` is None for a cold-start user."""

    label: str
    user_id: int | None
    number: int | None
    """Number after `user_` in prompts; None for a cold-start user."""
    name: str
    history: tuple[int, ...]
    """Item ids, oldest first."""


@dataclass(frozen=True)
class Catalogue:
    """The items by id and by key."""

    rows: Mapping[int, Mapping[str, Any]]
    ids: Mapping[str, int]

    @classmethod
    def load(cls, places: Places) -> "Catalogue":
        """Reads `sequences/items`."""
        rows = read_table(places.table("sequences/items"), schema.CATALOGUE, columns=_COLUMNS).to_pylist()
        return cls({row["item_id"]: row for row in rows}, {row["item_key"]: row["item_id"] for row in rows})

    def label(self, item_id: int) -> str:
        """Returns the title, or the key if the item has no title."""
        return str(self.rows[item_id]["title"] or self.rows[item_id]["item_key"])


def load_settings(params: Path, dataset: str | None = None, *, challenger: bool = False) -> PipelineSettings:
    """Loads the settings of the dataset's champion, or of the last trained model if there is no champion.

    Args:
        params: parameter file that names the dataset and describes the last trained model.
        dataset: another dataset, which has a champion or for which a profile was run.
        challenger: whether to use the last trained model even if there is a champion.

    Raises:
        ParamsError: the file or dataset does not exist, or a required key is missing.
        ModelError: the champion is corrupt.
    """
    if dataset is not None:
        checked_name(dataset, "dataset")
    name = dataset or str(load_params(params).get("dataset"))
    champion = None if challenger else promoted_model.current(name)
    if champion is not None:
        return _settings(champion.folder / "params.yaml", name, champion)
    return _settings(params if dataset is None else _params_of(dataset, params), name, None)


def _params_of(dataset: str, params: Path) -> Path:
    """Returns `params` if it names `dataset`, otherwise the parameter file of the dataset's profile run."""
    default = str(load_params(params).get("dataset"))
    profile = params.parent / "work" / "profiles" / dataset / "params.yaml"
    if default == dataset or profile.is_file():
        return params if default == dataset else profile
    known = {default, *(path.parent.name for path in profile.parents[1].glob("*/params.yaml"))}
    known |= {path.parent.name for path in Path("models").glob("*/champion.json")}
    raise ParamsError(
        f"dataset {dataset!r} without a run", nearest(dataset, sorted(known)),
        f"run `make run PROFILE={dataset}`, or name its parameters with --params",
    )  # fmt: skip


def _settings(params: Path, name: str, champion: Champion | None) -> PipelineSettings:
    whole = load_params(params)
    try:
        prompts = _part(whole["prompts"], [field.name for field in fields(HistoryParams)])
        history = build(HistoryParams, prompts, where="prompts")
        entry = build(Dataset, whole["datasets"][name], where=f"datasets.{name}")
        evaluate = build(Params, _part(whole["evaluate"], _SEARCH), where="evaluate")
    except KeyError as error:
        raise ParamsError(
            f"no key {error} in {params}", "the parameters of a pipeline", "name them with --params"
        ) from error
    templates = None if history.templates is None else Path(history.templates)
    sealed = None if champion is None else champion.folder / promoted_model.TEMPLATES
    if sealed is not None and sealed.is_file():
        templates = sealed
    return PipelineSettings(
        places=Places(dataset=name) if champion is None else champion.places,
        champion=champion,
        photos=None if entry.photos is None else Places(dataset=name).raw / entry.photos,
        photo_keys=None if entry.photo_keys is None else Places(dataset=name).raw / entry.photo_keys,
        templates=templates,
        max_history=history.max_history,
        history_kept=history.history_kept,
        evaluate=evaluate,
    )


def _part(section: Mapping[str, Any] | None, keys: Sequence[str]) -> dict[str, Any]:
    """The values of `keys` that a section of the parameters sets."""
    return {key: value for key, value in (section or {}).items() if key in keys}


def known_user(places: Places, key: str, *, held_out: bool = False) -> RequestUser:
    """Returns the user with the dump's key `key` and the complete history; `held_out` drops the test item.

    Raises:
        InputError: there is no such user; the message names similar keys.
    """
    users = read_table(places.table("sequences/users"), schema.USERS, columns=("user_id", "user_key", "name", "number"))
    row = users.filter(pc.equal(users["user_key"], key)).to_pylist()
    if not row:
        newer = (
            ", or ask the last trained model with --challenger"
            if (places.root / promoted_model.MANIFEST).is_file()
            else ""
        )
        raise InputError(
            f"no user {key!r} in {places.table('sequences/users')}", near(key, users["user_key"].to_pylist()),
            f"name a user of the table by its key, or give --history{newer}",
        )  # fmt: skip
    user_id, name = row[0]["user_id"], rendering.shown_name(row[0]["name"], key)
    columns = ("user_id", "item_id", "split")
    rows = read_table(places.table("sequences/interactions"), schema.INTERACTIONS, columns=columns)
    user_rows = rows.filter(pc.equal(rows["user_id"], user_id)).to_pylist()
    history = tuple(entry["item_id"] for entry in user_rows if not (held_out and entry["split"] == "test"))
    return RequestUser(label=f"user {key}", user_id=user_id, number=row[0]["number"], name=name, history=history)


def cold_start_user(catalogue: Catalogue, keys: Sequence[str]) -> RequestUser:
    """Returns a cold-start user with a history of the items `keys`, oldest first.

    Raises:
        InputError: `keys` is empty, or an item is not in the catalogue; the message names similar keys.
    """
    if not keys:
        raise InputError("an empty history", "at least one item key", "write --history KEY,KEY,...")
    for key in keys:
        if key not in catalogue.ids:
            raise InputError(
                f"no item {key!r} in the catalogue", near(key, catalogue.ids), "name items of sequences/items by key"
            )
    history = tuple(catalogue.ids[key] for key in keys)
    return RequestUser(label="a cold-start user", user_id=None, number=None, name=COLD_START_NAME, history=history)


def near(key: str, known: Iterable[str]) -> str:
    """Returns the expected part of an unknown-key error: the most similar known keys, or three examples.

    Example:
        >>> near("B01", ["B02", "B19", "C7"])
        'B19, B02 (the nearest known)'
    """
    keys = list(known)
    if len(keys) > _MANY_KEYS:
        keys = [other for other in keys if other[:3] == key[:3]] or keys[:3]
    matches = difflib.get_close_matches(key, keys, n=3, cutoff=0.6)
    return f"{', '.join(matches)} (the nearest known)" if matches else f"a key such as {', '.join(sorted(keys)[:3])}"
