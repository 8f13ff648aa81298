"""Formats `params.yaml` as DVC writes it, so that `dvc exp run -S` changes one line.

Trade-off: DVC's internal writer is called directly; a reimplementation would break with the next version of DVC.
"""

import tempfile
from pathlib import Path

import yaml

from features.errors import ParamsError

_ROUNDS = 4


def as_dvc_writes(text: str) -> str:
    r"""Formats `text` as `dvc exp run -S` does when it changes no value.

    Example:
        >>> as_dvc_writes("a: [1, 2]\nb: null   # nothing\n")
        'a:\n- 1\n- 2\nb:        # nothing\n'

    Raises:
        ParamsError: `text` has an anchor, which DVC would change in two places, or a comment that DVC would drop.
    """
    from dvc.utils.hydra import apply_overrides

    anchors = [token.value for token in yaml.scan(text) if isinstance(token, yaml.AnchorToken)]
    if anchors:
        raise ParamsError(
            f"the anchor {anchors[0]!r} in params.yaml", "no anchors (dvc exp run -S would change both places)",
            "replace the reference by its values",
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
            f"the comment {min(lost)!r} in params.yaml, which DVC drops", "a comment beside a key",
            "move it beside a key, not after a list",
        )  # fmt: skip
    return written


def _comments(text: str) -> set[str]:
    return {line.partition("#")[2].strip() for line in text.splitlines() if "#" in line}


def check(path: Path, *, write: bool) -> bool:
    """Returns whether `path` is in DVC's form; with `write`, reformats it.

    Raises:
        ParamsError: `path` is not in DVC's form, and `write` is not set.
    """
    before = path.read_text(encoding="utf-8")
    after = as_dvc_writes(before)
    if after != before and not write:
        pairs = zip(before.splitlines(), [*after.splitlines(), *[""] * len(before)], strict=False)
        number, line = next((n, old) for n, (old, new) in enumerate(pairs, start=1) if old != new)
        raise ParamsError(
            f"line {number} of {path} ({line.strip()}) not formatted as DVC writes it", "DVC's format",
            ".venv/bin/python -m flows.graph --write",
        )  # fmt: skip
    if write:
        path.write_text(after, encoding="utf-8")
    return after == before
