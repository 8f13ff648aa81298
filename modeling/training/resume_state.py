"""Saves and loads the state of a training run, from which a killed run resumes with identical results.

Writes `work/checkpoints/<digest>/step-<n>/` with tensors.safetensors and, last, state.json, which holds the digest of
the tensors. The last two states are kept, so that a damaged one costs the steps since the one before it.
Random state is not stored: the seed and the step number determine batches and dropout.
"""

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from features.errors import ModelError
from features.store.durable import flush, flush_tree
from features.store.tables import file_digest

log = logging.getLogger("vip5")
TENSORS_FILE, STATE_FILE = "tensors.safetensors", "state.json"
FORMAT = 2
_KEPT = 2


@dataclass(frozen=True)
class State:
    """The state of a run after `step` steps."""

    step: int
    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


def save_state(folder: Path, state: State) -> Path:
    """Writes `folder/step-<n>` atomically, removes all but the newest two states and returns the folder.

    The files are on the disk before the folder has its final name.
    """
    from safetensors.torch import save_file

    staging, final = folder / ".staging", folder / f"step-{state.step:09d}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    save_file(tensors, staging / TENSORS_FILE)
    digest = file_digest(staging / TENSORS_FILE)
    whole = {"format": FORMAT, "step": state.step, "tensors_sha256": digest, **state.values}
    (staging / STATE_FILE).write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    flush_tree(staging)
    shutil.rmtree(final, ignore_errors=True)
    staging.rename(final)
    flush(folder)
    for older in [path for path in _finished(folder) if path != final][: 1 - _KEPT or None]:
        shutil.rmtree(older)
    return final


def load_state(folder: Path) -> State | None:
    """Loads the newest undamaged state in `folder`; None if there is none.

    A damaged state is renamed to `damaged-step-<n>`, with a warning, and the one before it is loaded.

    Raises:
        ModelError: the state has another format version.
    """
    for path in reversed(_finished(folder)):
        try:
            return _load(path)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            path.rename(aside)
            reason = str(error).strip().splitlines() or [type(error).__name__]
            log.warning("put the damaged checkpoint %s aside as %s (%s)", path, aside.name, reason[0])
    return None


def _load(folder: Path) -> State:
    """The state in `folder`.

    Raises:
        ValueError: its files are not those that were written; OSError, KeyError and TypeError likewise.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    values = json.loads((folder / STATE_FILE).read_text(encoding="utf-8"))
    if not isinstance(values, dict):
        raise TypeError(f"{STATE_FILE} holds a {type(values).__name__}")
    if values["format"] != FORMAT:
        raise ModelError(f"a checkpoint of format {values['format']} in {folder}", f"format {FORMAT}", "delete it")
    if file_digest(folder / TENSORS_FILE) != values["tensors_sha256"]:
        raise ValueError(f"{TENSORS_FILE} has another digest than in {STATE_FILE}")
    try:
        return State(int(values["step"]), load_file(folder / TENSORS_FILE), values)
    except SafetensorError as error:
        raise ValueError(str(error)) from error


def _finished(folder: Path) -> list[Path]:
    """The folders of the complete states in `folder`, oldest first."""
    return sorted(path.parent for path in folder.glob(f"step-*/{STATE_FILE}"))
