"""Keeps `params.yaml` in the form that DVC's own writer gives back, so that `dvc exp run -S` changes one line of it.

Enters: the text of `params.yaml`. Leaves: the same values and comments, as `dvc exp run -S` writes them.
Trade-off: DVC's writer is called itself, an internal of DVC; a form described by us would be wrong with the next DVC.
"""

import tempfile
from pathlib import Path

import yaml

from features.errors import ParamsError

_ROUNDS = 4


def as_dvc_writes(text: str) -> str:
    r"""`text` as `dvc exp run -S` writes it when it changes no value.

    Example:
        >>> as_dvc_writes("a: [1, 2]\nb: null   # nothing\n")
        'a:\n- 1\n- 2\nb:        # nothing\n'

    Raises:
        ParamsError: an anchor, which DVC's writer would change in two places at once, or a comment that it would drop.
    """
    from dvc.utils.hydra import apply_overrides

    anchors = [token.value for token in yaml.scan(text) if isinstance(token, yaml.AnchorToken)]
    if anchors:
        raise ParamsError(
            f"the anchor {anchors[0]!r} in params.yaml", "values written out (dvc exp run -S would change both places)",
            "write the values where the reference stands",
        )  # fmt: skip
    written = text
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params.yaml"
        for _ in range(_ROUNDS):
            before = written
            path.write_text(before, encoding="utf-8")
            apply_overrides(path, [])
            written = path.read_text(encoding="utf-8")
            if written == before:
                break
    lost = _comments(text) - _comments(written)
    if lost:
        raise ParamsError(
            f"the comment {min(lost)!r} in params.yaml, which DVC's writer drops", "a comment that it keeps",
            "put it on the line of a key, not after a list",
        )  # fmt: skip
    return written


def _comments(text: str) -> set[str]:
    return {line.partition("#")[2].strip() for line in text.splitlines() if "#" in line}


def check(path: Path, *, write: bool) -> bool:
    """Whether `path` was in that form already; with `write` it is afterwards.

    Raises:
        ParamsError: it is not, and `write` is not set.
    """
    before = path.read_text(encoding="utf-8")
    after = as_dvc_writes(before)
    if after != before and not write:
        pairs = zip(before.splitlines(), [*after.splitlines(), *[""] * len(before)], strict=False)
        number, line = next((n, old) for n, (old, new) in enumerate(pairs, start=1) if old != new)
        raise ParamsError(
            f"line {number} of {path} ({line.strip()}) in another form than DVC writes", "DVC's own form",
            ".venv/bin/python -m flows.graph --write",
        )  # fmt: skip
    if write:
        path.write_text(after, encoding="utf-8")
    return after == before
