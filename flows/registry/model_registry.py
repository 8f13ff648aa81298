"""The registry of promoted models: immutable folders named by their digest, and a pointer to the champion.

Copies the outputs of a finished run to `models/<dataset>/champions/<digest>/`, which mirrors the repository's layout,
and writes the pointer `models/<dataset>/champion.json`. `modeling.serving.promoted_model` reads both.

Trade-off: files are copied, not linked, so that no stage can modify a champion; every champion takes its full size.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.errors import InputError, ModelError
from features.prompts.templates import OWN_TEMPLATES
from features.store.durable import flush, write_text
from features.store.manifests import file_digest
from modeling.serving.promoted_model import MANIFEST, TEMPLATES, Champion, about_paths, check, home, pointer_path

_NEEDED = ("models/{name}/train", "metrics/{name}/evaluate.json")
_CONTENT = (
    "models/{name}/pretrain", "data/{name}/identifiers", "data/{name}/sequences/users", "data/{name}/sequences/items",
    "data/{name}/sequences/interactions", "data/{name}/images/embeddings", "data/{name}/predictions",
)  # fmt: skip


def copy_to_staging(name: str, root: Path = Path()) -> Path:
    """Copies the files of a champion into a new staging folder and returns the folder.

    Raises:
        ModelError: the trained model or its metrics do not exist.
    """
    staging = home(name, root) / ".staging"
    shutil.rmtree(staging, ignore_errors=True)
    for pattern in (*_NEEDED, *_CONTENT):
        part = pattern.format(name=name)
        source = root / part
        if not source.exists():
            if pattern in _NEEDED:
                raise ModelError(f"no {part}", "a completed pipeline run", "run `.venv/bin/dvc repro`")
            continue
        (staging / part).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, staging / part)
        else:
            shutil.copy2(source, staging / part)
    return staging


def seal(name: str, staging: Path, params: Mapping[str, Any], root: Path = Path()) -> tuple[str, Path]:
    """Renames a staged folder to the digest of its content; returns the digest and the folder.

    Adds the parameters as `params.yaml` (JSON, which is YAML) and the prompt templates as `templates.yaml`. Sealing the
    same content again has no effect.
    """
    (staging / "params.yaml").write_text(json.dumps(params, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    if "prompts" in params:
        own = params["prompts"].get("templates")
        shutil.copyfile(OWN_TEMPLATES if own is None else root / own, staging / TEMPLATES)
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
        flush(path)
    staging.rename(folder)
    return found, folder


def promote(name: str, found: str, about: Mapping[str, Any], root: Path = Path()) -> Champion:
    """Points the champion pointer at a sealed folder; readers see either the old champion or the new one.

    `about` is also written beside the folder, for `use`.
    """
    folder = home(name, root) / found
    check(folder, whole=True)
    _write(_about_path(folder), about)
    _write(pointer_path(name, root), {"digest": found, "folder": f"champions/{found}", "about": dict(about)})
    return Champion(name=name, digest=found, folder=folder, about=about)


def use(name: str, prefix: str, root: Path = Path()) -> Champion:
    """Points the champion pointer at a promoted model whose digest begins with `prefix`.

    Raises:
        InputError: no promoted model, or more than one, matches; the message lists the candidates.
        ModelError: the model's folder is damaged.
    """
    known = [champion.digest for champion in promoted_models(name, root)]
    found = [digest for digest in known if prefix and digest.startswith(prefix)]
    if not found:
        one_of = f"one of: {', '.join(known)}" if known else "a promoted model; there is none yet"
        raise InputError(f"no champion {prefix!r} of {name}", one_of, "name one of them by its first digits")
    if len(found) > 1:
        raise InputError(
            f"{len(found)} champions of {name} that begin with {prefix!r}", f"one of: {', '.join(found)}",
            "write more digits",
        )  # fmt: skip
    about = json.loads(_about_path(home(name, root) / found[0]).read_text(encoding="utf-8"))
    return promote(name, found[0], about, root)


def promoted_models(name: str, root: Path = Path()) -> list[Champion]:
    """Lists all promoted models, oldest first, without checking their folders.

    Raises:
        ModelError: the description of a model cannot be read.
    """
    models = []
    for path in about_paths(name, root):
        found = path.name.partition(".")[0]
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            about["promoted_at"] = str(about["promoted_at"])
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"{path} that cannot be read", "a description written by flows.retrain", "restore or delete it"
            ) from error
        models.append(Champion(name=name, digest=found, folder=home(name, root) / found, about=about))
    return sorted(models, key=lambda model: (model.about["promoted_at"], model.digest))


def _about_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.about.json")


def _write(path: Path, content: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=1, sort_keys=True) + "\n")
