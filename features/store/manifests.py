"""Table manifests: what a table holds, what it was made from, and whether it is current.

Reads table folders and input files. Returns digests, and the manifest of a complete and current table.
Trade-off: each read verifies input digests back to the first table (a few milliseconds), so that a stage run manually
on stale tables fails instead of mixing two versions of the data.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from features.errors import TableError
from features.runtime.params import digest

MANIFEST = "_manifest.json"
_OF_ONE_RUN = ("params_digest", "inputs", "libraries")


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a finished table, after checking that its inputs have not changed.

    Inputs that are not on this machine are skipped; raw files and photos are not read again (DVC tracks them).

    Raises:
        TableError: The table does not exist, is half-written, is older than one of its inputs, or comes from another
            run than the other tables of its stage.
    """
    manifest = _load(folder)
    name = Path(manifest["table"])
    if folder.parts[-len(name.parts) :] == name.parts:
        root = folder.parents[len(name.parts) - 1]
        _check_siblings(root, name, manifest)
        _check_inputs(root, manifest, set())
    return manifest


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def input_digest(path: Path) -> str:
    """16-digit hex digest of a table (its manifest), a file (its bytes) or a folder (file names and bytes)."""
    manifest = path / MANIFEST
    if manifest.is_file():
        return file_digest(manifest)[:16]
    if path.is_file():
        return file_digest(path)[:16]
    if not path.is_dir():
        raise TableError(f"no input {path}", "a table, file or folder", "run `.venv/bin/dvc repro`")
    files = sorted(entry for entry in path.rglob("*") if entry.is_file())
    return digest([(str(entry.relative_to(path)), file_digest(entry)) for entry in files])


def _load(folder: Path) -> dict[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        state = "a half-written table" if folder.exists() else "no table"
        raise TableError(
            f"{state} at {folder}", f"a folder with {MANIFEST}", "run `.venv/bin/dvc repro` (it makes what is missing)"
        )
    try:
        loaded: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise TableError(
            f"{path} that is not JSON ({error})", "a whole manifest", "run `.venv/bin/dvc repro`"
        ) from error
    return loaded


def _check_inputs(root: Path, manifest: dict[str, Any], seen: set[str]) -> None:
    """Raises TableError if a direct or indirect input of `manifest` below `root` has changed."""
    for name, recorded in manifest["inputs"].items():
        path = root / name / MANIFEST
        if name in seen or not path.is_file():
            continue
        current = file_digest(path)[:16]
        if current != recorded:
            raise TableError(
                f"stale {manifest['table']}: made from {name} {recorded}, which is now {current}",
                "tables made from those beside them",
                f"run `.venv/bin/dvc repro` (by hand: the stage {manifest['stage']}, then what follows it)",
            )
        seen.add(name)
        _check_inputs(root, _load(path.parent), seen)


def _check_siblings(root: Path, name: Path, manifest: dict[str, Any]) -> None:
    """Raises TableError if another table of the same stage has different parameters, inputs or libraries.

    A stage killed between two of its tables leaves such a pair.
    """
    folders = [path.parent for path in sorted((root / name.parts[0]).rglob(MANIFEST))] if len(name.parts) > 1 else []
    for folder in folders:
        if folder.name.startswith("."):  # staging
            continue
        other = _load(folder)
        if other["stage"] == manifest["stage"] and any(other[key] != manifest[key] for key in _OF_ONE_RUN):
            raise TableError(
                f"{manifest['table']} and {other['table']} of two runs of the stage {manifest['stage']}",
                "tables of one run", f"run `.venv/bin/dvc repro`, or the stage {manifest['stage']} once more",
            )  # fmt: skip
