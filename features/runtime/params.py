"""Reads `params.yaml` into frozen dataclasses; unknown, missing or ill-typed keys fail before any work.

Reads a YAML file whose top-level keys are stages and a few shared settings. Returns one dataclass per stage.
Trade-off: a small strict reader of plain dataclasses instead of a configuration framework.
"""

import dataclasses
import difflib
import hashlib
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import yaml

from features.errors import ParamsError
from features.runtime.names import checked_name

T = TypeVar("T")
_MAX_BYTES = 16_000_000
_MAX_VALUES = 1_000_000


def load_yaml(path: Path) -> dict[str, Any]:
    """The mapping of a YAML file.

    Raises:
        ParamsError: The file is missing, not YAML, not a mapping, larger than 16 MB, or of more than a million values
            (aliases count as often as they are used).
    """
    if not path.is_file():
        raise ParamsError(
            f"no file {path}", "a YAML file of parameters", "check the name, or run from the repository root"
        )
    if path.stat().st_size > _MAX_BYTES:
        raise ParamsError(f"{path} of {path.stat().st_size:,} bytes", f"at most {_MAX_BYTES:,}", "shorten the file")
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = str(error).strip() or type(error).__name__
        raise ParamsError(f"{path} that is not YAML ({reason})", "a YAML mapping", "fix the file") from error
    if not isinstance(loaded, dict):
        raise ParamsError(f"{path} holding {type(loaded).__name__}", "a YAML mapping", "fix the file")
    _check_size(loaded, path)
    return loaded


def _check_size(loaded: object, path: Path) -> None:
    """Raises ParamsError for more than `_MAX_VALUES` values, to which a few nested aliases can expand."""
    waiting, seen = [loaded], 0
    while waiting:
        value = waiting.pop()
        inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple | set) else ()
        seen += 1 + len(inside)
        if seen > _MAX_VALUES:
            raise ParamsError(
                f"{path} of more than {_MAX_VALUES:,} values", "a file of parameters", "remove its aliases"
            )
        waiting += inside


def load_params(path: Path) -> dict[str, Any]:
    """The mapping of `params.yaml` or of a profile, after checking the names of datasets and tokenizers in it.

    Raises:
        ParamsError: The file is missing or not a YAML mapping, or a name is not safe.
    """
    whole = load_yaml(path)
    if whole.get("dataset") is not None:
        whole["dataset"] = checked_name(whole["dataset"], "dataset")
    for section, what in (("datasets", "dataset"), ("tokenizers", "tokenizer")):
        if isinstance(whole.get(section), Mapping):
            whole[section] = {checked_name(name, what): entry for name, entry in whole[section].items()}
    return whole


def merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Merges `over` into `base`: mappings merge key by key, everything else is replaced.

    Sections that `base` lacks are rejected, because no stage would read them. The keys of a section are checked when
    it becomes a dataclass (`build`), because `base` lists only those that differ from their default.

    Example:
        >>> merge({"train": {"epochs": 3, "seed": 1}}, {"train": {"epochs": 9}})
        {'train': {'epochs': 9, 'seed': 1}}

    Raises:
        ParamsError: A section is unknown; the message suggests known ones.
    """
    for section in over:
        if section not in base:
            raise ParamsError(f"section {section} in the profile", nearest(section, base), "use one of params.yaml")
    return _merge(base, over)


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        old = base.get(key)
        merged[key] = _merge(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return merged


def nearest(key: str, known: Mapping[str, Any] | list[str]) -> str:
    """The `expected` part of an error about an unknown key: similar known names, or all of them."""
    names = list(known)
    near = difflib.get_close_matches(str(key), [str(name) for name in names], n=3, cutoff=0.5)
    return f"{', '.join(near)} (the nearest known)" if near else f"one of: {', '.join(map(str, names))}"


def build(cls: type[T], values: Mapping[str, Any], *, where: str) -> T:
    """Builds the frozen dataclass `cls` from plain YAML values and checks every key.

    Args:
        cls: A dataclass; supports nested dataclasses, `X | None`, tuple[X, ...], dict[str, X] and scalars.
        values: Values of the YAML section.
        where: Name of the section, for messages such as `records.k_core`.

    Raises:
        ParamsError: A key is unknown, missing or ill-typed; the message suggests known keys.
    """
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = typing.get_type_hints(cls)
    for key in values:
        if key not in fields:
            raise ParamsError(f"parameter {where}.{key}", nearest(key, list(fields)), "rename or remove it")
    arguments: dict[str, Any] = {}
    for name, field in fields.items():
        if name in values:
            arguments[name] = _convert(values[name], hints[name], f"{where}.{name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ParamsError(
                f"no parameter {where}.{name}", f"a value of type {_name(hints[name])}", "add it to params.yaml"
            )
    try:
        return cls(**arguments)
    except ValueError as error:  # a dataclass states its ranges in __post_init__
        raise ParamsError(f"{where}: {error}", "a value in range", "change it in params.yaml") from error


def digest(values: object) -> str:
    """The first 16 hex digits of the SHA-256 of `values` written as canonical JSON."""
    if dataclasses.is_dataclass(values) and not isinstance(values, type):
        values = dataclasses.asdict(values)
    text = json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _name(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")


def _convert(value: Any, hint: Any, where: str) -> Any:
    """`value` as the annotated type, or ParamsError; an int is accepted for a float."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        return _convert_union(value, args, where)
    if origin is typing.Literal:
        return _convert_literal(value, args, where)
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(entry, args[0], f"{where}[{i}]") for i, entry in enumerate(value))
    if origin is dict and isinstance(value, Mapping):
        return {str(key): _convert(entry, args[1], f"{where}.{key}") for key, entry in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        return build(typing.cast(type[Any], hint), value, where=where)
    if isinstance(hint, type) and origin is None and not dataclasses.is_dataclass(hint):
        if hint is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if isinstance(value, hint) and isinstance(value, bool) == (hint is bool):
            return value
    if hint is Any:
        return value
    raise ParamsError(
        f"{where} = {value!r} ({type(value).__name__})", f"type {_name(hint)}", "change it in params.yaml"
    )


def _convert_literal(value: Any, choices: tuple[Any, ...], where: str) -> Any:
    if value in choices and type(value) in {type(choice) for choice in choices}:
        return value
    raise ParamsError(f"{where} = {value!r}", nearest(str(value), [str(c) for c in choices]), "choose one of them")


def _convert_union(value: Any, args: tuple[Any, ...], where: str) -> Any:
    if value is None and type(None) in args:
        return None
    choices = [arg for arg in args if arg is not type(None)]
    for choice in choices[:-1]:
        try:
            return _convert(value, choice, where)
        except ParamsError:
            continue
    return _convert(value, choices[-1], where)
