"""Saves and loads the state of a training run, from which a killed run resumes with identical results.

Writes `work/checkpoints/<digest>/step-<n>/` with tensors.safetensors and, last, state.json.
Random state is not stored: the seed and the step number determine batches and dropout.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from features.errors import ModelError

TENSORS_FILE, STATE_FILE = "tensors.safetensors", "state.json"
FORMAT = 1


@dataclass(frozen=True)
class State:
    """The state of a run after `step` steps."""

    step: int
    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


def save_state(folder: Path, state: State) -> Path:
    """Writes `folder/step-<n>` atomically, removes older states and returns the folder."""
    from safetensors.torch import save_file

    staging, final = folder / ".staging", folder / f"step-{state.step:09d}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    save_file(tensors, staging / TENSORS_FILE)
    whole = {"format": FORMAT, "step": state.step, **state.values}
    (staging / STATE_FILE).write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    shutil.rmtree(final, ignore_errors=True)
    staging.rename(final)
    for older in _finished(folder):
        if older != final:
            shutil.rmtree(older)
    return final


def load_state(folder: Path) -> State | None:
    """Loads the newest complete state in `folder`; None if there is none.

    Raises:
        ModelError: the state has another format version.
    """
    from safetensors.torch import load_file

    folders = _finished(folder)
    if not folders:
        return None
    values = json.loads((folders[-1] / STATE_FILE).read_text(encoding="utf-8"))
    if values.get("format") != FORMAT:
        raise ModelError(
            f"a checkpoint of format {values.get('format')} in {folders[-1]}", f"format {FORMAT}", "delete the folder"
        )
    return State(int(values["step"]), load_file(folders[-1] / TENSORS_FILE), values)


def _finished(folder: Path) -> list[Path]:
    """The folders of the complete states in `folder`, oldest first."""
    return sorted(path.parent for path in folder.glob(f"step-*/{STATE_FILE}"))
