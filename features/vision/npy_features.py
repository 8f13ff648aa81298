"""Reads item features from `<item key>.npy` files, as published VIP5 bundles store them.

Reads a folder and item keys. Returns one matrix, a status per item, and the reason for each rejected file.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tokenize import TokenError

import numpy as np

from features.errors import InputError

# What NumPy raises on a spoilt header: it parses the text as a Python literal.
MALFORMED = (ValueError, TypeError, OverflowError, EOFError, SyntaxError, TokenError, RecursionError)
_HEADER_BYTES = 4096
_READERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


@dataclass(frozen=True, kw_only=True)
class Vectors:
    """Features in the order of the requested keys, zeros unless the status is ok.

    `rejects` are (key, reason), `names` the item keys of everything read, and `blank` the keys of vectors that are all
    zeros, which by custom stand for "no photo": their status is missing.
    """

    matrix: np.ndarray  # (items, width) float32
    statuses: tuple[str, ...]
    rejects: tuple[tuple[str, str], ...]
    names: tuple[str, ...]
    blank: frozenset[str]


def read_vectors(folder: Path, item_keys: Sequence[str]) -> Vectors:
    """Reads the features of the items from `<item key>.npy` files; statuses are those of `images/embeddings`.

    The width is that of most files; files of another width are rejected. An item without a file is missing.

    Raises:
        InputError: The folder does not exist, or none of its files can be read.
    """
    if not folder.is_dir():
        raise InputError(
            f"no folder {folder}", "a folder of <item key>.npy files, a .npy matrix, or a .b file of the 2014 dumps",
            "copy the features there, or correct vectors of the dataset in params.yaml",
        )  # fmt: skip
    there = sorted(path.stem for path in folder.glob("*.npy"))
    vectors: dict[str, np.ndarray] = {}
    refused: dict[str, str] = {}
    for key in dict.fromkeys(item_keys):
        if not key or "/" in key or "\0" in key or key.startswith("."):
            refused[key] = "a key that is no file name"
            continue
        try:
            vectors[key] = read_vector(folder / f"{key}.npy")
        except FileNotFoundError:
            continue
        except (ValueError, OSError) as error:
            refused[key] = str(error)[:200]
        except Exception as error:  # noqa: BLE001 - whatever a spoilt file raises concerns this item alone
            refused[key] = f"unreadable, {type(error).__name__}: {error}"[:200]
    if not vectors and (not there or not set(there).isdisjoint(item_keys)):
        raise InputError(f"no readable feature in {folder}", "files <item key>.npy of one width", "check the folder")
    widths = [len(vector) for vector in vectors.values()]
    width = max(set(widths), key=lambda one: (widths.count(one), one), default=1)
    for key in [key for key, vector in vectors.items() if len(vector) != width]:
        refused[key] = f"{len(vectors.pop(key))} numbers where most have {width}"
    return arranged(vectors, refused, item_keys, width=width, names=there)


def arranged(
    vectors: dict[str, np.ndarray],
    refused: dict[str, str],
    item_keys: Sequence[str],
    *,
    width: int,
    names: Sequence[str],
) -> Vectors:
    """One row per item from finite vectors (width,) by key and the reasons for refusing others."""
    matrix = np.zeros((len(item_keys), width), dtype=np.float32)
    for place, key in enumerate(item_keys):
        if key in vectors:
            matrix[place] = vectors[key]
    blank = frozenset(key for key, filled in zip(item_keys, np.any(matrix, axis=1).tolist(), strict=True) if not filled)
    blank &= vectors.keys()
    used = vectors.keys() - blank
    statuses = tuple("ok" if key in used else "rejected" if key in refused else "missing" for key in item_keys)
    return Vectors(
        matrix=matrix, statuses=statuses, rejects=tuple(sorted(refused.items())), names=tuple(names), blank=blank
    )


def read_vector(path: Path) -> np.ndarray:
    """Reads one vector as float32. The file size is checked against the header before memory is allocated.

    Raises:
        ValueError: Not a vector of finite floating-point numbers, or an array of Python objects (a pickle).
        FileNotFoundError: The file does not exist.
    """
    with path.open("rb") as stream:
        version = np.lib.format.read_magic(stream)
        if version not in _READERS:
            raise ValueError(f"version {version} of the format")
        try:
            shape, _, kind = _READERS[version](stream, max_header_size=_HEADER_BYTES)
        except MALFORMED as error:
            raise ValueError(f"a header that cannot be read ({error})") from error
        if kind.hasobject or kind.kind != "f":
            raise ValueError(f"an array of {kind}, not of floating-point numbers")
        if len(shape) == 2 and shape[0] == 1:
            shape = shape[1:]
        if len(shape) != 1 or shape[0] < 1:
            raise ValueError(f"an array of shape {shape}, not one vector")
        if path.stat().st_size != stream.tell() + shape[0] * kind.itemsize:
            raise ValueError(f"{path.stat().st_size} bytes where the header says {shape[0]} numbers of {kind}")
        stream.seek(0)
        loaded: np.ndarray = np.load(stream, allow_pickle=False).reshape(-1)
    with np.errstate(over="ignore"):
        vector = loaded.astype(np.float32)
    if not np.isfinite(vector).all():
        raise ValueError("a number that is not finite")
    return vector
