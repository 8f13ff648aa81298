"""Parameter overrides with which known users and items keep the ids and codes of the champion.

Reads a profile's merged parameters and its champion. `flows.profile` and `flows.retrain` apply the same overrides.

Trade-off: if dump, parameters and code are those of the champion, the overrides are the ones it was trained with, so
that a run without new data has no stage to repeat.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.errors import ModelError
from features.runtime.params import load_params, load_yaml
from features.runtime.stage import Places
from flows.registry.provenance import data_digests
from flows.registry.sealed_tables import comparable
from modeling.serving import promoted_model
from modeling.serving.promoted_model import Champion

_READ_BY_NO_STAGE = ("retrain", "ingest")
_NUMBERING = ("sequences", "identifiers")
Overrides = dict[str, dict[str, str]]


def kept_ids(params: Mapping[str, Any], root: Path = Path()) -> Overrides:
    """The overrides for `params`, the merged parameters of a profile; empty without a champion.

    Example:
        {"sequences": {"previous_items": "models/toys/champions/0123456789abcdef/data/toys/sequences/items", ...}, ...}

    Raises:
        ModelError: the champion's tables have the schema of an older version.
    """
    name = params["dataset"]
    before = promoted_model.current(name, root) if (params.get("retrain") or {}).get("keep_ids", True) else None
    if before is None:
        return {}
    as_made: Overrides | None = before.about.get("numbers_kept_from")
    if as_made is not None and _nothing_new(before, params, root) and _there(as_made, root):
        return as_made
    places = Places(dataset=name, root=before.folder)
    for table in ("sequences/items", "sequences/users"):
        if places.table(table).is_dir() and not comparable(places, table):
            raise ModelError(
                f"champion {before.digest} with {table} in an older schema", "the current schema, to keep its ids",
                "set retrain.keep_ids to false for one run, which assigns new ids to users and items",
            )  # fmt: skip
    found = {
        section: {
            key: places.table(table).relative_to(root).as_posix()
            for key, table in tables.items()
            if key in params.get(section, {}) and places.table(table).is_dir()
        }
        for section, tables in _wanted(before.about["params"], params).items()
    }
    return {section: values for section, values in found.items() if values}


def used_in_last_run(params: Mapping[str, Any], root: Path = Path()) -> Overrides:
    """The overrides that the last derived pipeline applied to `params`, the merged parameters of a profile."""
    ran = load_params(root / "work" / "profiles" / params["dataset"] / "params.yaml")
    found = {
        section: {key: value for key, value in ran[section].items() if value != params[section].get(key)}
        for section in _NUMBERING
        if section in params
    }
    return {section: values for section, values in found.items() if values}


def _wanted(old: Mapping[str, Any], new: Mapping[str, Any]) -> Overrides:
    """The champion's table that each parameter should name."""
    wanted: Overrides = {"sequences": {}, "identifiers": {}}
    if _agree(old, new, "sequences", "numbering"):  # ids of another numbering rule may leak
        wanted["sequences"]["previous_items"] = "sequences/items"
        if _agree(old, new, "identifiers", "scheme", "levels"):  # codes of another scheme cannot be kept
            wanted["identifiers"]["previous"] = "identifiers"
    if _agree(old, new, "sequences", "user_numbers"):
        wanted["sequences"]["previous_users"] = "sequences/users"
    return wanted


def _agree(old: Mapping[str, Any], new: Mapping[str, Any], section: str, *keys: str) -> bool:
    return all(old.get(section, {}).get(key) == new.get(section, {}).get(key) for key in keys)


def _nothing_new(before: Champion, params: Mapping[str, Any], root: Path) -> bool:
    """Whether dump, parameters and numbering code equal those of the champion."""
    digests = data_digests(Places(dataset=before.name, root=root), ())
    same_data = bool(digests) and digests.get("raw") == before.about.get("data", {}).get("raw")
    return same_data and _read(params) == _read(before.about["params"]) and _same_code(before.name, root)


def _read(params: Mapping[str, Any]) -> dict[str, Any]:
    return {section: values for section, values in params.items() if section not in _READ_BY_NO_STAGE}


def _same_code(name: str, root: Path) -> bool:
    """Whether the modules of the numbering stages match the profile's `dvc.lock`."""
    path = root / "work" / "profiles" / name / "dvc.lock"
    stages = load_yaml(path).get("stages", {}) if path.is_file() else {}
    deps = [dep for stage in _NUMBERING for dep in stages.get(stage, {}).get("deps", []) if dep["path"].endswith(".py")]
    return bool(deps) and all(_md5(root / dep["path"]) == dep.get("md5") for dep in deps)


def _md5(path: Path) -> str | None:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() if path.is_file() else None


def _there(kept: Overrides, root: Path) -> bool:
    return all((root / path).is_dir() for tables in kept.values() for path in tables.values())
