"""The state of a training run on disk, so that a killed run goes on as if nothing had happened.

Enters: tensors by name and plain values. Leaves: `work/checkpoints/<digest>/step-<n>/` with tensors.safetensors and
state.json, written last.
Trade-off: random state needs no file: batches and dropout of step n follow from the seed and n alone.
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
    """One moment of a run."""

    step: int
    tensors: Mapping[str, Tensor]
    values: Mapping[str, Any]


def save_state(folder: Path, state: State) -> Path:
    """Writes `folder/step-<n>` whole, then removes older ones; returns it."""
    from safetensors.torch import save_file

    staging, place = folder / ".staging", folder / f"step-{state.step:09d}"
    shutil.rmtree(staging, ignore_errors=True)
    staging.mkdir(parents=True)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in state.tensors.items()}
    save_file(tensors, staging / TENSORS_FILE)
    whole = {"format": FORMAT, "step": state.step, **state.values}
    (staging / STATE_FILE).write_text(json.dumps(whole, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    shutil.rmtree(place, ignore_errors=True)
    staging.rename(place)
    for older in _finished(folder):
        if older != place:
            shutil.rmtree(older)
    return place


def load_state(folder: Path) -> State | None:
    """The newest state below `folder`, or None.

    Raises:
        ModelError: it was written by a version with another layout.
    """
    from safetensors.torch import load_file

    places = _finished(folder)
    if not places:
        return None
    values = json.loads((places[-1] / STATE_FILE).read_text(encoding="utf-8"))
    if values.get("format") != FORMAT:
        raise ModelError(
            f"a checkpoint of layout {values.get('format')} in {places[-1]}", f"layout {FORMAT}", "delete the folder"
        )
    return State(int(values["step"]), load_file(places[-1] / TENSORS_FILE), values)


def _finished(folder: Path) -> list[Path]:
    """The complete states below `folder`, oldest first."""
    return sorted(path.parent for path in folder.glob(f"step-*/{STATE_FILE}"))
