"""Which parameters make the users and items that a champion knows keep their numbers and codes.

Enters: a profile's merged parameters and its champion. Leaves: parameters to lay over them, the same ones for
`flows.profile` and `flows.retrain`. Trade-off: a champion made of this dump, these parameters and this code is made
again in the way in which it was made, so that a run with nothing new has nothing to do.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.errors import ModelError
from features.runtime.params import load_yaml
from features.runtime.stage import Places
from flows.registry.provenance import data_digests
from flows.registry.sealed_tables import comparable
from modeling.serving import promoted_model
from modeling.serving.promoted_model import Champion

_READ_BY_NO_STAGE = ("retrain", "ingest")
_NUMBERING = ("sequences", "identifiers")
Over = dict[str, dict[str, str]]


def kept_numbers(params: Mapping[str, Any], root: Path = Path()) -> Over:
    """The parameters to lay over `params` (a profile's, merged); empty before the first champion.

    Example:
        {"sequences": {"previous_items": "models/toys/champions/0123456789abcdef/data/toys/sequences/items", ...}, ...}

    Raises:
        ModelError: the champion's tables are of an older version.
    """
    name = params["dataset"]
    before = promoted_model.current(name, root) if (params.get("retrain") or {}).get("keep_numbers", True) else None
    if before is None:
        return {}
    as_made: Over | None = before.about.get("numbers_kept_from")
    if as_made is not None and _nothing_new(before, params, root) and _there(as_made, root):
        return as_made
    places = Places(dataset=name, root=before.folder)
    for table in ("sequences/items", "sequences/users"):
        if places.table(table).is_dir() and not comparable(places, table):
            raise ModelError(
                f"a champion {before.digest} with {table} of an older version", "today's schema, to keep its numbers",
                "set retrain.keep_numbers to false for one run: users and items are then numbered afresh",
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


def used_in_last_run(params: Mapping[str, Any], root: Path = Path()) -> Over:
    """What was laid over `params` (a profile's, merged) when its pipeline was derived last."""
    ran = load_yaml(root / "work" / "profiles" / params["dataset"] / "params.yaml")
    found = {
        section: {key: value for key, value in ran[section].items() if value != params[section].get(key)}
        for section in _NUMBERING
        if section in params
    }
    return {section: values for section, values in found.items() if values}


def _wanted(old: Mapping[str, Any], new: Mapping[str, Any]) -> Over:
    """By parameter, the champion's table that it should name."""
    wanted: Over = {"sequences": {}, "identifiers": {}}
    if _agree(old, new, "sequences", "numbering"):  # numbers of another rule may leak
        wanted["sequences"]["previous_items"] = "sequences/items"
        if _agree(old, new, "identifiers", "scheme", "levels"):  # codes of another kind cannot be kept
            wanted["identifiers"]["previous"] = "identifiers"
    if _agree(old, new, "sequences", "user_numbers"):
        wanted["sequences"]["previous_users"] = "sequences/users"
    return wanted


def _agree(old: Mapping[str, Any], new: Mapping[str, Any], section: str, *keys: str) -> bool:
    return all(old.get(section, {}).get(key) == new.get(section, {}).get(key) for key in keys)


def _nothing_new(before: Champion, params: Mapping[str, Any], root: Path) -> bool:
    """Whether dump, parameters and the code that numbers are those that the champion was made of."""
    digests = data_digests(Places(dataset=before.name, root=root), ())
    same_data = bool(digests) and digests.get("raw") == before.about.get("data", {}).get("raw")
    return same_data and _read(params) == _read(before.about["params"]) and _same_code(before.name, root)


def _read(params: Mapping[str, Any]) -> dict[str, Any]:
    return {section: values for section, values in params.items() if section not in _READ_BY_NO_STAGE}


def _same_code(name: str, root: Path) -> bool:
    """Whether the modules of the stages that number are as the profile's lock has them."""
    path = root / "work" / "profiles" / name / "dvc.lock"
    stages = load_yaml(path).get("stages", {}) if path.is_file() else {}
    deps = [dep for stage in _NUMBERING for dep in stages.get(stage, {}).get("deps", []) if dep["path"].endswith(".py")]
    return bool(deps) and all(_md5(root / dep["path"]) == dep.get("md5") for dep in deps)


def _md5(path: Path) -> str | None:
    return hashlib.md5(path.read_bytes(), usedforsecurity=False).hexdigest() if path.is_file() else None


def _there(kept: Over, root: Path) -> bool:
    return all((root / path).is_dir() for tables in kept.values() for path in tables.values())
