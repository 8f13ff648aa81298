"""Loads precomputed image features of a published bundle in the form that `images` produces.

Reads the folder of `<item key>.npy` files and the catalogue's keys. Returns `Features` and manifest notes on their
origin. The encoder is unknown, and the tables record it as unknown.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from features.store.embeddings import unit_rows
from features.vision.image_decoding import Rejection
from features.vision.npy_features import read_vectors
from features.vision.photo_index import Features, Reject


def load_features(folder: Path, keys: Sequence[str], *, normalise: bool) -> tuple[Features, dict[str, Any]]:
    """Loads one entry per item; invalid files are rejected as `not_a_vector`, items without a file are missing.

    Args:
        folder: Folder of `<item key>.npy` files, each one vector of floating-point numbers.
        keys: Distinct item keys of the catalogue.
        normalise: Whether to scale the vectors to length 1.

    Raises:
        InputError: The folder does not exist, or none of its files can be read.
    """
    loaded = read_vectors(folder, keys)
    row_of = {key: row for row, key in enumerate(keys)}
    features = Features(
        vectors=unit_rows(loaded.matrix).astype("float32") if normalise else loaded.matrix,
        statuses=list(loaded.statuses),
        digests=[None] * len(keys),
        treatments=[None] * len(keys),
        num_photos=[int(status == "ok") for status in loaded.statuses],
        rejects=[
            Reject(row=row_of[key], source=f"{key}.npy", rejection=Rejection(reason="not_a_vector", detail=why))
            for key, why in loaded.rejects
        ],
    )
    encoder = {"model": f"unknown (vectors read from {folder.name})", "pretrained": None, "untrained": False,
               "seed": None, "normalised": normalise, "precision": None}  # fmt: skip
    return features, {"encoder": encoder, "photos_of_no_item": loaded.num_unmatched}
