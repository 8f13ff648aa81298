"""Reads the weights of an encoder from a local file and says which tensor does not fit.

Reads .safetensors, and .pt, .pth and .bin files of torch (`weights_only`: a file that holds anything but tensors and
plain values is refused). Returns a state dictionary.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.errors import InputError

TORCH_SUFFIXES = {".pt", ".pth", ".bin"}
SUFFIXES = {".safetensors"} | TORCH_SUFFIXES
_ABSENT = "no such tensor"
_NESTED = ("state_dict", "model_state_dict", "model")
_SIZE_MISMATCH = re.compile(
    r"size mismatch for (\S+): copying a param with shape torch\.Size\((\[[^]]*\])\) from checkpoint, "
    r"the shape in current model is torch\.Size\((\[[^]]*\])\)"
)


def is_weight_file(pretrained: str | None) -> bool:
    """Whether `pretrained` names an existing file of weights."""
    return pretrained is not None and Path(pretrained).suffix in SUFFIXES and Path(pretrained).is_file()


def named(pretrained: str) -> str:
    """Name and digest of a weight file for manifests, which do not hold paths of one machine."""
    from features.store.tables import file_digest

    return f"{Path(pretrained).name} sha256 {file_digest(Path(pretrained))[:16]}"


def read_weights(path: Path) -> dict[str, Any]:
    """The tensors of a weight file by name, without the prefix of DistributedDataParallel.

    Raises:
        InputError: The file is damaged, or holds objects other than tensors.
    """
    import pickle

    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        loaded: Any = (
            load_file(path)
            if path.suffix == ".safetensors"
            else torch.load(path, map_location="cpu", weights_only=True)
        )
    except (SafetensorError, pickle.UnpicklingError, EOFError, RuntimeError, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise InputError(
            f"{path}, whose weights cannot be read ({reason})", "a whole .safetensors file, or a torch file of tensors",
            "copy or download it again, or convert it to .safetensors",
        ) from error  # fmt: skip
    for key in _NESTED:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    tensors = loaded.items() if isinstance(loaded, Mapping) else ()
    return {str(name).removeprefix("module."): value for name, value in tensors if isinstance(value, torch.Tensor)}


def load_weights(model: Any, path: Path, heads: tuple[str, ...]) -> None:
    """Loads a weight file into `model`; tensors of a classifier that the model lacks are dropped.

    Args:
        model: A torch module.
        path: The weight file.
        heads: Names of classifiers, such as `classifier` for the tensor `classifier.weight`.

    Raises:
        InputError: The file does not fit; names the first tensor that differs, with both shapes.
    """
    weights, wanted = read_weights(path), model.state_dict()
    weights = {
        name: value
        for name, value in weights.items()
        if name in wanted or not name.startswith(tuple(f"{h}." for h in heads))
    }
    for name in sorted(dict.fromkeys((*wanted, *weights)), key=lambda name: name not in wanted or name not in weights):
        found, expected = _shape(weights, name), _shape(wanted, name)
        if found != expected and not (found == _ABSENT and name.endswith("num_batches_tracked")):
            raise mismatch(path.name, name, found, expected)
    model.load_state_dict(weights, strict=False)


def _shape(tensors: Mapping[str, Any], name: str) -> str:
    return str(list(tensors[name].shape)) if name in tensors else _ABSENT


def mismatch(where: str, name: str, found: str, expected: str) -> InputError:
    """The error about weights that do not fit the model, with both shapes of the first such tensor."""
    return InputError(
        f"{name}: {found} in {where}",
        f"{expected}, as in the model",
        "choose the model of these weights, or other weights",
    )


def first_mismatch(error: Exception, where: str) -> InputError | None:
    """The error about the first tensor in torch's message about shapes; None if the message is about something else."""
    match = _SIZE_MISMATCH.search(str(error))
    return mismatch(where, match[1], match[2], match[3]) if match else None
