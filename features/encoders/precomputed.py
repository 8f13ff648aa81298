"""Ready image features of a published bundle, in the shape in which `images` gets its own.

Enters: the folder of `<item key>.npy` and the catalogue's keys. Leaves: `Features`, and what the manifest says of their
origin. Trade-off: nothing is known of the encoder that made them, and the tables say so instead of guessing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from features.store.embeddings import unit_rows
from features.vision.image_decoding import Rejection
from features.vision.npy_features import read_vectors
from features.vision.photo_index import Features, Reject


def given_features(folder: Path, keys: Sequence[str], *, normalise: bool) -> tuple[Features, dict[str, Any]]:
    """One entry an item; a file that holds no vector is a reject `not_a_vector`, an item without a file is missing.

    Args:
        folder: holds `<item key>.npy`, each one vector of floating-point numbers.
        keys: the catalogue's item keys, each once.
        normalise: scale the vectors to length 1.

    Raises:
        InputError: no such folder, or no file in it can be read.
    """
    found = read_vectors(folder, keys)
    place = {key: row for row, key in enumerate(keys)}
    features = Features(
        vectors=unit_rows(found.matrix).astype("float32") if normalise else found.matrix,
        statuses=list(found.statuses),
        digests=[None] * len(keys),
        treatments=[None] * len(keys),
        num_photos=[int(status == "ok") for status in found.statuses],
        rejects=[
            Reject(row=place[key], source=f"{key}.npy", rejection=Rejection(reason="not_a_vector", detail=why))
            for key, why in found.rejects
        ],
    )
    encoder = {"model": f"unknown (vectors read from {folder.name})", "pretrained": None, "untrained": False,
               "seed": None, "normalised": normalise, "precision": None}  # fmt: skip
    return features, {"encoder": encoder, "photos_of_no_item": found.num_unmatched}
