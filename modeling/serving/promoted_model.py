"""Locates the promoted model of a dataset: the pointer, the sealed folder that it names, the last gate verdict.

Reads `models/<dataset>/champion.json`, `models/<dataset>/champions/` and `metrics/<dataset>/gate.json`, which
`flows.registry.model_registry` writes; returns a `Champion` with verified files, and a description of the last trained
model.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from features.errors import ModelError
from features.runtime.params import digest
from features.runtime.stage import Places
from features.store.manifests import file_digest

MANIFEST = "champion_manifest.json"
TEMPLATES = "templates.yaml"
"""File name of the champion's prompt templates, next to its `params.yaml`."""
_DIGEST = re.compile(r"[0-9a-f]{16}")


@dataclass(frozen=True, kw_only=True)
class Champion:
    """A sealed model folder and the content of its pointer."""

    name: str
    digest: str
    folder: Path
    """models/<name>/champions/<digest> below the root."""
    about: Mapping[str, Any]
    """params, metrics, data (digests), git, model (digest of the trained files), promoted_at."""

    @property
    def promoted_at(self) -> str:
        """The time of the promotion, such as "2026-11-28 19:30 UTC"."""
        return moment(self.about.get("promoted_at"))

    @property
    def places(self) -> Places:
        """The tables, models and metrics in the sealed folder."""
        return Places(dataset=self.name, root=self.folder)


def moment(written: object) -> str:
    """Formats an ISO 8601 time in UTC, to the minute.

    Example:
        >>> moment("2026-11-28T20:30:05+01:00")
        '2026-11-28 19:30 UTC'
    """
    try:
        return f"{datetime.fromisoformat(str(written)).astimezone(UTC):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return "at an unknown time"


def pointer_path(name: str, root: Path = Path()) -> Path:
    """Returns `models/<name>/champion.json`."""
    return root / "models" / name / "champion.json"


def home(name: str, root: Path = Path()) -> Path:
    """Returns `models/<name>/champions`, the folder of all sealed models."""
    return root / "models" / name / "champions"


def about_paths(name: str, root: Path = Path()) -> list[Path]:
    """Returns one `<digest>.about.json` per promoted model, sorted."""
    return sorted(home(name, root).glob("*.about.json"))


def current(name: str, root: Path = Path()) -> Champion | None:
    """Returns the champion that the pointer names, after checking its manifest and file sizes; None without a pointer.

    Raises:
        ModelError: the pointer or its folder is corrupt.
    """
    path = pointer_path(name, root)
    if not path.exists():
        return None
    try:
        pointer = json.loads(path.read_text(encoding="utf-8"))
        champion_digest, about = pointer["digest"], pointer["about"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{path} that cannot be read", "a pointer to a champion", _remedy(name)) from error
    if not isinstance(champion_digest, str) or not _DIGEST.fullmatch(champion_digest) or not isinstance(about, dict):
        raise ModelError(f"{path} that has no valid digest", "the keys digest and about of a champion", _remedy(name))
    folder = home(name, root) / champion_digest
    check(folder)
    return Champion(name=name, digest=champion_digest, folder=folder, about=about)


def check(folder: Path, *, whole: bool = False) -> dict[str, Any]:
    """Verifies a sealed folder and returns its manifest; `whole` compares checksums, otherwise only file sizes.

    Raises:
        ModelError: the manifest does not match the folder name, or a file does not match the manifest.
    """
    path, remedy = folder / MANIFEST, _remedy(folder.parents[1].name)
    if not folder.is_dir():
        raise ModelError(f"no folder {folder}", "the champion's sealed folder", remedy)
    if not path.is_file() or file_digest(path)[:16] != folder.name:
        raise ModelError(f"{folder} with a name other than its manifest's digest", "a sealed champion", remedy)
    manifest: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for name, entry in manifest["files"].items():
        file = folder / name
        if not file.is_file() or file.stat().st_size != entry["bytes"]:
            raise ModelError(f"{file} with another size than in the manifest", f"{entry['bytes']} bytes", remedy)
        if whole and file_digest(file) != entry["sha256"]:
            raise ModelError(f"{file} with another checksum than in the manifest", entry["sha256"], remedy)
    return manifest


def _remedy(name: str) -> str:
    return f"use another champion (.venv/bin/python -m flows.champion {name} --use DIGEST) or retrain"


def model_digest(name: str, root: Path = Path()) -> str:
    """Returns 16 hex digits that identify the trained files below `root` (the workspace or a champion's folder)."""
    folders = [root / "models" / name / part for part in ("pretrain", "train")]
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    return digest([(path.relative_to(root).as_posix(), file_digest(path)) for path in files])


def verdict_path(name: str, root: Path = Path()) -> Path:
    """Returns `metrics/<name>/gate.json`: the gate's last verdict and the digest of the judged model."""
    return Places(dataset=name, root=root).metrics("gate.json")


def last_trained(name: str, root: Path = Path()) -> str:
    """Describes the last trained model: the gate's decision on it, and the current champion.

    Example: "the last trained model, which the gate has not judged; no model was promoted yet"
    """
    model = model_digest(name, root)
    try:
        champion = current(name, root)
    except ModelError:
        return f"the last trained model, which {_judged(name, model, root)}; the champion is damaged"
    if champion is not None and champion.about.get("model") == model:
        return f"the last trained model, which is the champion {champion.digest}"
    if champion is not None:
        other = f"the champion is {champion.digest}"
    else:
        num = len(about_paths(name, root))
        other = f"no champion is chosen of the {num} that were promoted" if num else "no model was promoted yet"
    return f"the last trained model, which {_judged(name, model, root)}; {other}"


def _judged(name: str, model: str, root: Path) -> str:
    path = verdict_path(name, root)
    try:
        verdict = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
        if verdict.get("model") != model:
            return "the gate has not judged"
        decision, reason = verdict["decision"], verdict["reason"]
    except (ValueError, KeyError, AttributeError):
        return f"the gate may have judged ({path} cannot be read)"
    words = {"promote": "the gate promoted", "refuse": f"the gate refused ({reason})"}
    return words.get(decision, f"the gate did not promote ({reason})")
