"""Merges profiles into `params.yaml`.

Reads `params.yaml` and `profiles/NAME.yaml`. Returns the merged parameters as plain values.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from features.errors import ParamsError
from features.runtime.params import load_yaml, merge, nearest


def merged(names: Sequence[str], root: Path = Path()) -> dict[str, Any]:
    """`params.yaml` with the profiles merged into it in the given order.

    Raises:
        ParamsError: A profile does not exist or has a key that `params.yaml` lacks.
    """
    params = load_yaml(root / "params.yaml")
    for name in names:
        path = root / "profiles" / f"{name}.yaml"
        if not path.is_file():
            known = sorted(found.stem for found in (root / "profiles").glob("*.yaml"))
            raise ParamsError(f"profile {name!r}", nearest(name, known), f"write {path}, or choose one that exists")
        params = merge(params, load_yaml(path))
    return params


def dump_params(name: str, root: Path = Path()) -> dict[str, Any]:
    """`params.yaml` merged with `profiles/<name>.yaml` if that exists."""
    params = {"datasets": {}, "tokenizers": {}} | load_yaml(root / "params.yaml")
    profile = root / "profiles" / f"{name}.yaml"
    return merge(params, load_yaml(profile)) if profile.is_file() else params
