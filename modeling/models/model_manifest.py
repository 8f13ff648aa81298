"""Manifests of trained models: what a folder was trained from, with the digest of every file in it.

Reads and writes `models/<dataset>/{pretrain,train}/manifest.json`. The manifest holds its own digest, so that a changed
value is found like a changed file.
Trade-off: every load hashes the model's files (1 s per GB), so that damaged weights are never served.
"""

import json
import platform
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from features.errors import ModelError
from features.runtime.params import digest
from features.runtime.stage import Places
from features.store.durable import flush_tree
from features.store.tables import file_digest, input_digest, replace_folder

MANIFEST_FILE = "manifest.json"
_LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors", "numpy", "pyarrow")
_SEALED = "champion_manifest.json"


def finish_model(folder: Path, staging: Path, places: Places, manifest: Mapping[str, Any]) -> Path:
    """Writes the manifest last, flushes everything to the disk, then moves the folder to its final path."""
    files = sorted(path for path in staging.rglob("*") if path.is_file())
    whole = {
        "dataset": places.dataset,
        "identifiers_digest": input_digest(places.table("identifiers")),
        "libraries": {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES},
        **manifest,
        "files": {path.relative_to(staging).as_posix(): file_digest(path) for path in files},
    }
    write_manifest(staging / MANIFEST_FILE, whole)
    flush_tree(staging)
    replace_folder(folder)
    return folder


def write_manifest(path: Path, values: Mapping[str, Any]) -> None:
    """Writes `values` and their digest."""
    plain = json.loads(json.dumps({name: value for name, value in values.items() if name != "digest"}))
    signed = plain | {"digest": digest(plain)}
    path.write_text(json.dumps(signed, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def read_manifest(places: Places, stage: str) -> dict[str, Any]:
    """Reads the manifest of `models/<dataset>/<stage>` and checks its digest, dataset and identifiers.

    Raises:
        ModelError: the manifest is missing or damaged, or belongs to another dataset or set of identifiers.
    """
    path = places.model(stage) / MANIFEST_FILE
    if not path.is_file():
        raise ModelError(f"no {path}", "a trained model", f"run `.venv/bin/dvc repro {stage}`")
    manifest = _parsed(path, stage, sealed=(places.root / _SEALED).is_file())
    if manifest["dataset"] != places.dataset:
        raise ModelError(
            f"{path.parent} of dataset {manifest['dataset']!r}",
            f"dataset {places.dataset!r}",
            f"run `.venv/bin/dvc repro {stage}`",
        )
    identifiers = input_digest(places.table("identifiers"))
    if manifest["identifiers_digest"] != identifiers:
        raise ModelError(
            f"{path.parent} trained with identifiers {manifest['identifiers_digest']}",
            f"identifiers {identifiers} ({places.table('identifiers')})",
            f"run `.venv/bin/dvc repro {stage}`",
        )
    return manifest


def check_files(folder: Path, manifest: Mapping[str, Any], stage: str) -> None:
    """Compares every file of a model with its digest in the manifest.

    Raises:
        ModelError: a file is missing or changed.
    """
    for name, expected in manifest.get("files", {}).items():
        path = folder / name
        if not path.is_file():
            raise ModelError(f"no {path}", "a file of the trained model", f"run `.venv/bin/dvc repro {stage}`")
        if file_digest(path) != expected:
            raise ModelError(
                f"{path} that changed after training", f"SHA-256 {expected[:16]}", f"run `.venv/bin/dvc repro {stage}`"
            )


def _parsed(path: Path, stage: str, *, sealed: bool) -> dict[str, Any]:
    """The manifest at `path`; one in a sealed champion of an earlier version may lack digests (the seal has them)."""
    remedy = f"run `.venv/bin/dvc repro {stage}`"
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} that cannot be read ({type(error).__name__})", "a whole manifest", remedy) from error
    if not isinstance(manifest, dict):
        raise ModelError(f"{path} that holds a {type(manifest).__name__}", "a manifest", remedy)
    signed = {name: value for name, value in manifest.items() if name != "digest"}
    if manifest.get("digest") != digest(signed) and not (sealed and "digest" not in manifest):
        raise ModelError(f"{path} with another digest than its content", "a manifest as it was written", remedy)
    return manifest
