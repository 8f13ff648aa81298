"""Reads item features from one file: a `.npy` matrix with a list of keys, or `image_features_X.b` of the 2014 dumps.

Reads a file and item keys. Returns `Vectors`, as for a folder of `.npy` files.
Trade-off: files are read in blocks, so that memory holds the catalogue's rows and one block, however long the file is.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from features.errors import InputError
from features.vision.key_lists import read_vector_keys
from features.vision.npy_features import MALFORMED, Vectors, arranged

ROWS_AT_ONCE = 256
KEY_BYTES, B_WIDTH = 10, 4096
_RECORD = np.dtype([("key", f"S{KEY_BYTES}"), ("vector", "<f4", (B_WIDTH,))])


def read_matrix(path: Path, key_list: Path, item_keys: Sequence[str]) -> Vectors:
    """Reads the features of the items from the rows of one matrix; items that `key_list` lacks are missing.

    Args:
        path: A `.npy` file of floating-point numbers, (rows, width), read without pickle.
        key_list: The item key of each row (`read_vector_keys`).
        item_keys: Item keys of the catalogue.

    Raises:
        InputError: A file is missing or malformed, or they do not fit each other.
    """
    matrix = _mapped(path)
    rows = read_vector_keys(key_list, len(matrix))
    vectors: dict[str, np.ndarray] = {}
    refused: dict[str, str] = {}
    for key in sorted(set(item_keys) & rows.keys(), key=lambda key: rows[key]):
        _take(key, matrix[rows[key]], vectors, refused)
    return arranged(vectors, refused, item_keys, width=matrix.shape[1], names=list(rows))


def read_binary(path: Path, item_keys: Sequence[str]) -> Vectors:
    """Reads the features of the items from records of a key (10 bytes) and 4,096 little-endian float32 numbers.

    Of several records of one key the first is used.

    Raises:
        InputError: The file is missing, cut short, or holds no such records.
    """
    expected = f"records of {KEY_BYTES} bytes of key and {B_WIDTH} float32 numbers ({_RECORD.itemsize:,} bytes each)"
    if not path.is_file():
        raise InputError(f"no file {path}", expected, "copy it there, or correct vectors of the dataset in params.yaml")
    size = path.stat().st_size
    if size == 0 or size % _RECORD.itemsize:
        raise InputError(
            f"{path} of {size:,} bytes, {size % _RECORD.itemsize:,} too many for whole records", expected,
            "download it again: it was cut short, or it is another kind of file",
        )  # fmt: skip
    wanted = set(item_keys)
    names: dict[str, None] = {}
    vectors: dict[str, np.ndarray] = {}
    refused: dict[str, str] = {}
    with path.open("rb") as stream:
        while len(block := np.fromfile(stream, dtype=_RECORD, count=ROWS_AT_ONCE)):
            for number, raw in enumerate(block["key"].tolist()):
                if not raw.isalnum():
                    raise InputError(
                        f"record {len(names) + 1:,} of {path}, whose key is {raw!r}", expected,
                        "download it again, or correct vectors of the dataset in params.yaml",
                    )  # fmt: skip
                key = raw.decode("ascii")
                if key in wanted and key not in names:
                    _take(key, block["vector"][number], vectors, refused)
                names[key] = None
    return arranged(vectors, refused, item_keys, width=B_WIDTH, names=list(names))


def _take(key: str, row: np.ndarray, vectors: dict[str, np.ndarray], refused: dict[str, str]) -> None:
    with np.errstate(over="ignore"):
        vector = row.astype(np.float32)
    if np.isfinite(vector).all():
        vectors[key] = vector
    else:
        refused[key] = "a number that is not finite"


def _mapped(path: Path) -> np.ndarray:
    """The matrix, memory-mapped."""
    expected = "a .npy matrix of floating-point numbers, one row per item"
    if not path.is_file():
        raise InputError(f"no file {path}", expected, "copy it there, or correct vectors of the dataset in params.yaml")
    try:
        matrix: np.ndarray = np.lib.format.open_memmap(path, mode="r")
    except (*MALFORMED, OSError) as error:
        raise InputError(
            f"{path}, which cannot be read ({str(error)[:100]})", expected,
            "save it again with numpy.save, or download it again",
        ) from error  # fmt: skip
    if matrix.ndim != 2 or matrix.dtype.kind != "f" or 0 in matrix.shape:
        raise InputError(
            f"{path}, an array of {matrix.dtype} of shape {matrix.shape}", expected,
            "save a matrix of floating-point numbers with numpy.save",
        )  # fmt: skip
    spare = path.stat().st_size - matrix.nbytes - getattr(matrix, "offset", 0)
    if spare:
        raise InputError(f"{path} with {spare:,} bytes after its {len(matrix):,} rows", expected, "save it again")
    return matrix
