"""Loads precomputed image features in the form that `images` produces.

Reads a folder of `<item key>.npy` files, a matrix with its keys, or `image_features_X.b`, and the catalogue's keys.
Returns `Features`, manifest notes on their origin, and the keys of all vectors. The encoder is unknown, and the tables
record it as unknown.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from features.errors import InputError
from features.runtime.datasets import Dataset
from features.store.embeddings import unit_rows
from features.vision.image_decoding import Rejection
from features.vision.matrix_features import read_binary, read_matrix
from features.vision.npy_features import Vectors, read_vectors
from features.vision.photo_index import Features, Reject


def load_features(
    raw: Path, dataset: Dataset, keys: Sequence[str], *, normalise: bool
) -> tuple[Features, dict[str, Any], Vectors]:
    """Loads one entry per item.

    Invalid vectors are rejected as `not_a_vector`; items without a vector, or with one that is all zeros, are missing.

    Args:
        raw: The dump's folder.
        dataset: Its entry of `datasets`, with `vectors`.
        keys: Distinct item keys of the catalogue.
        normalise: Whether to scale the vectors to length 1.

    Raises:
        InputError: The files do not exist, cannot be read, or do not fit each other.
    """
    path = raw / str(dataset.vectors)
    loaded = _loaded(path, raw, dataset, keys)
    row_of = {key: row for row, key in enumerate(keys)}
    source = "{}.npy" if path.is_dir() else f"{path.name}:{{}}"
    features = Features(
        vectors=unit_rows(loaded.matrix).astype("float32") if normalise else loaded.matrix,
        statuses=list(loaded.statuses),
        digests=[None] * len(keys),
        treatments=[None] * len(keys),
        num_photos=[int(status == "ok") for status in loaded.statuses],
        rejects=[
            Reject(row=row_of[key], source=source.format(key), rejection=Rejection(reason="not_a_vector", detail=why))
            for key, why in loaded.rejects
        ],
    )
    encoder = {"model": f"unknown (vectors read from {path.name})", "pretrained": None, "untrained": False,
               "seed": None, "normalised": normalise, "precision": None}  # fmt: skip
    return features, {"encoder": encoder}, loaded


def _loaded(path: Path, raw: Path, dataset: Dataset, keys: Sequence[str]) -> Vectors:
    if path.suffix == ".b":
        return read_binary(path, keys)
    if path.suffix != ".npy":
        return read_vectors(path, keys)
    if dataset.vector_keys is None:
        raise InputError(
            f"vectors {path.name} without vector_keys", "a list of the item key of each row of the matrix",
            "set datasets.NAME.vector_keys to a CSV of item key and row, or to a file of one key per line",
        )  # fmt: skip
    return read_matrix(path, raw / dataset.vector_keys, keys)
