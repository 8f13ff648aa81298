"""Champions: the promoted models of a dataset, each an immutable folder named by its content, one of them pointed at.

Enters: the workspace of a finished run. Leaves: `models/<dataset>/champions/<digest>/`, which mirrors the repository's
layout and can be read as a root of its own, and `models/<dataset>/champion.json`, which names one of them.
Trade-off: files are copied, not linked, so that nothing that a stage writes can reach a champion; that costs its size.
`modeling.serving.promoted_model` is the reading side.
"""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.errors import InputError, ModelError
from features.prompts.templates import OWN_TEMPLATES
from features.store.manifests import file_digest
from modeling.serving.promoted_model import MANIFEST, TEMPLATES, Champion, about_paths, check, home, pointer_path

_NEEDED = ("models/{name}/train", "metrics/{name}/evaluate.json")
_CONTENT = (
    "models/{name}/pretrain", "data/{name}/identifiers", "data/{name}/sequences/users", "data/{name}/sequences/items",
    "data/{name}/sequences/interactions", "data/{name}/images/embeddings", "data/{name}/predictions",
)  # fmt: skip


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
                raise ModelError(f"no {part}", "a pipeline that ran to its end", "run `.venv/bin/dvc repro`")
            continue
        (staging / part).parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, staging / part)
        else:
            shutil.copy2(source, staging / part)
    return staging


def seal(name: str, staging: Path, params: Mapping[str, Any], root: Path = Path()) -> tuple[str, Path]:
    """Names a staged folder by its content and puts it in its place; returns the digest and the folder.

    The parameters become `params.yaml` (JSON, which is YAML) in it, the prompt templates `templates.yaml`. Sealing the
    same content again changes nothing.
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


def use(name: str, prefix: str, root: Path = Path()) -> Champion:
    """Points at a model that was promoted before, by the first digits of its digest.

    Raises:
        InputError: no promoted model begins so, or several do; those that there are are named.
        ModelError: its folder is damaged.
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
    """All models that were promoted, oldest first; their folders are not checked.

    Raises:
        ModelError: what is known of one cannot be read.
    """
    models = []
    for path in about_paths(name, root):
        found = path.name.partition(".")[0]
        try:
            about = json.loads(path.read_text(encoding="utf-8"))
            about["promoted_at"] = str(about["promoted_at"])
        except (ValueError, KeyError, TypeError) as error:
            raise ModelError(
                f"{path} that cannot be read", "what flows.retrain wrote of a champion", "restore or delete it"
            ) from error
        models.append(Champion(name=name, digest=found, folder=home(name, root) / found, about=about))
    return sorted(models, key=lambda model: (model.about["promoted_at"], model.digest))


def _about_path(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.about.json")


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
