"""Merges profiles into `params.yaml`.

Reads `params.yaml` and `profiles/NAME.yaml`. Returns the merged parameters as plain values.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from features.errors import ParamsError
from features.runtime.names import checked_name
from features.runtime.params import load_params, merge, nearest
from features.runtime.profile_names import profile_names


def merged(names: Sequence[str], root: Path = Path()) -> dict[str, Any]:
    """`params.yaml` with the profiles merged into it in the given order.

    Raises:
        ParamsError: A profile does not exist, is not safely named, or has a section that `params.yaml` lacks.
    """
    params = load_params(root / "params.yaml")
    for name in names:
        checked_name(name, "profile")
        path = root / "profiles" / f"{name}.yaml"
        if not path.is_file():
            raise ParamsError(
                f"profile {name!r}", nearest(name, profile_names(root)), f"write {path}, or choose one that exists"
            )
        params = merge_profile(params, path)
    return params


def merge_profile(params: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """`params` merged with the profile at `path`, and before that with the one that its key `extends` names.

    Raises:
        ParamsError: The profile extends one that does not exist, or that extends another one itself.
    """
    own = load_params(path)
    name = own.pop("extends", None)
    if name is None:
        return merge(params, own)
    name = checked_name(name, "profile")
    base_path = path.with_name(f"{name}.yaml")
    if not base_path.is_file():
        known = profile_names(path.parents[1])
        raise ParamsError(f"extends: {name} in {path}", nearest(name, known), f"write {base_path}, or name another")
    base = load_params(base_path)
    if "extends" in base:
        raise ParamsError(f"{base_path} that extends another profile", "one level of `extends`", "write its values out")
    return merge(merge(params, base), own)


def dump_params(name: str, root: Path = Path()) -> dict[str, Any]:
    """`params.yaml` merged with `profiles/<name>.yaml` if that exists.

    Raises:
        ParamsError: `name` is not a safe name.
    """
    checked_name(name, "dataset")
    params = {"datasets": {}, "tokenizers": {}} | load_params(root / "params.yaml")
    profile = root / "profiles" / f"{name}.yaml"
    return merge_profile(params, profile) if profile.is_file() else params


def known_datasets(root: Path = Path()) -> set[str]:
    """The names of all entries of `datasets`, in `params.yaml` and in the profiles."""
    files = [root / "params.yaml", *sorted((root / "profiles").glob("*.yaml"))]
    return {entry for path in files for entry in load_params(path).get("datasets") or {}}
