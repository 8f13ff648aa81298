"""Champions: the promoted models of a dataset, each an immutable folder named by its content, one of them pointed at.

Enters: the workspace of a finished run. Leaves: `models/<dataset>/champions/<digest>/`, which mirrors the repository's
layout and can be read as a root of its own, and `models/<dataset>/champion.json`, which names one of them.
Trade-off: files are copied, not linked, so that nothing that a stage writes can reach a champion; that costs its size.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from features.errors import InputError, ModelError
from features.manifests import file_digest
from features.params import digest

MANIFEST = "champion_manifest.json"
_NEEDED = ("models/{name}/train", "metrics/{name}/evaluate.json")
_CONTENT = (
    "models/{name}/pretrain", "data/{name}/identifiers", "data/{name}/sequences/users", "data/{name}/sequences/items",
    "data/{name}/sequences/interactions", "data/{name}/images/embeddings", "data/{name}/predictions",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Champion:
    """A sealed folder and what its pointer says."""

    name: str
    digest: str
    folder: Path
    """Below the root: models/<name>/champions/<digest>."""
    about: Mapping[str, Any]
    """params, metrics, data (digests), git, model (digest of the trained files), promoted_at."""


def pointer_path(name: str, root: Path = Path()) -> Path:
    """`models/<name>/champion.json`."""
    return root / "models" / name / "champion.json"


def home(name: str, root: Path = Path()) -> Path:
    """`models/<name>/champions`, where the sealed folders lie."""
    return root / "models" / name / "champions"


def current(name: str, root: Path = Path()) -> Champion | None:
    """The champion that the pointer names, its manifest and the sizes of its files checked; None before the first.

    Raises:
        ModelError: the pointer or its folder is damaged.
    """
    path = pointer_path(name, root)
    if not path.is_file():
        return None
    try:
        said = json.loads(path.read_text(encoding="utf-8"))
        folder = home(name, root) / said["digest"]
    except (ValueError, KeyError) as error:
        raise ModelError(f"{path} that cannot be read", "a pointer as flows.retrain writes it", "restore it") from error
    check(folder)
    return Champion(name=name, digest=said["digest"], folder=folder, about=said["about"])


def check(folder: Path, *, whole: bool = False) -> dict[str, Any]:
    """The manifest of a sealed folder; `whole` reads every byte, else only sizes are compared.

    Raises:
        ModelError: the manifest is not that of the folder's name, or a file is not as it says.
    """
    path = folder / MANIFEST
    if not path.is_file() or file_digest(path)[:16] != folder.name:
        raise ModelError(f"{folder} without the manifest it is named by", "a sealed champion", "promote again")
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for name, entry in manifest["files"].items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != entry["bytes"]:
            raise ModelError(f"{file} that is not as it was sealed", f"{entry['bytes']} bytes", "promote again")
        if whole and file_digest(file) != entry["sha256"]:
            raise ModelError(f"{file} with other bytes than were sealed", entry["sha256"], "promote again")
    return manifest


def stage(name: str, root: Path = Path()) -> Path:
    """Copies what a champion holds into a fresh staging folder and returns it.

    Raises:
        ModelError: the trained model or its metrics are not there.
    """
    staging = home(name, root) / ".staging"
    shutil.rmtree(staging, ignore_errors=True)
    for pattern in (*_NEEDED, *_CONTENT):
        part = pattern.format(name=name)
        source = root / part
        if not source.exists():
            if pattern in _NEEDED:
                raise ModelError(f"no {part}", "a line that ran to its end", "run `dvc repro`")
            continue
        (staging / part).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, staging / part)
        else:
            shutil.copy2(source, staging / part)
    return staging


def seal(name: str, staging: Path, params: Mapping[str, Any], root: Path = Path()) -> tuple[str, Path]:
    """Names a staged folder by its content and puts it in its place; returns the digest and the folder.

    The parameters become `params.yaml` (JSON, which is YAML) in it. Sealing the same content again changes nothing.
    """
    (staging / "params.yaml").write_text(json.dumps(params, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    files = sorted(path for path in staging.rglob("*") if path.is_file() and path.name != MANIFEST)
    entries = {
        path.relative_to(staging).as_posix(): {"bytes": path.stat().st_size, "sha256": file_digest(path)}
        for path in files
    }
    _write(staging / MANIFEST, {"name": name, "files": entries})
    found = file_digest(staging / MANIFEST)[:16]
    folder = home(name, root) / found
    if folder.exists():
        check(folder, whole=True)
        shutil.rmtree(staging)
        return found, folder
    for path in (*files, staging / MANIFEST):
        path.chmod(0o444)
        _flush(path)
    staging.rename(folder)
    return found, folder


def promote(name: str, found: str, about: Mapping[str, Any], root: Path = Path()) -> Champion:
    """Points at a sealed folder, in one rename; whoever reads the pointer sees the old champion or the new one.

    What is said about it is kept beside the folder too, for `use`.
    """
    folder = home(name, root) / found
    check(folder, whole=True)
    _write(_about_path(folder), about)
    _write(pointer_path(name, root), {"digest": found, "folder": f"champions/{found}", "about": dict(about)})
    return Champion(name=name, digest=found, folder=folder, about=about)


def use(name: str, found: str, root: Path = Path()) -> Champion:
    """Points at a folder that was champion before.

    Raises:
        InputError: no such champion; those that there are are named.
        ModelError: its folder is damaged.
    """
    path = _about_path(home(name, root) / found)
    if not path.is_file():
        known = ", ".join(known_champions(name, root)) or "none"
        raise InputError(f"no champion {found!r} of {name}", f"one of: {known}", "name one of them")
    return promote(name, found, json.loads(path.read_text(encoding="utf-8")), root)


def known_champions(name: str, root: Path = Path()) -> list[str]:
    """Digests of all that were promoted, oldest first."""
    paths = home(name, root).glob("*.about.json")
    said = {path.name.partition(".")[0]: json.loads(path.read_text(encoding="utf-8")) for path in paths}
    return sorted(said, key=lambda found: (said[found]["promoted_at"], found))


def _about_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.about.json")


def model_digest(name: str, root: Path = Path()) -> str:
    """16 hex digits for the trained files of the workspace, or of a champion's folder given as root."""
    places = [root / "models" / name / part for part in ("pretrain", "train")]
    files = sorted(path for place in places for path in place.rglob("*") if path.is_file())
    return digest([(path.relative_to(root).as_posix(), file_digest(path)) for path in files])


def as_json(champion: Champion) -> dict[str, Any]:
    """The champion for a report."""
    return asdict(champion) | {"folder": champion.folder.as_posix()}


def _write(path: Path, content: Mapping[str, Any]) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    _flush(temporary)
    temporary.rename(path)


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
