"""The provenance of a model: Git revision, and digests of the dump and of every table.

A table is identified by the digest of its manifest, which holds the digest of every part, without reading the table.
"""

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from features.runtime.stage import Places
from features.store.manifests import MANIFEST, file_digest
from flows.download import dump_files


def git_state(root: Path = Path()) -> dict[str, Any]:
    """The revision, and whether tracked files differ from it; both None outside of a repository."""
    git = shutil.which("git")
    if git is None:
        return {"revision": None, "dirty": None}

    def ask(*arguments: str) -> str | None:
        done = subprocess.run([git, *arguments], cwd=root, capture_output=True, text=True, check=False)  # noqa: S603
        return done.stdout.strip() if done.returncode == 0 else None

    revision = ask("rev-parse", "HEAD")
    changes = ask("status", "--porcelain", "--untracked-files=no")
    return {"revision": revision, "dirty": None if changes is None else bool(changes)}


def data_digests(places: Places, tables: Sequence[str]) -> dict[str, str]:
    """SHA-256 of the manifests of the dump and of the tables, by name; skips tables without a manifest."""
    files = {"raw": places.raw / dump_files.MANIFEST} | {name: places.table(name) / MANIFEST for name in tables}
    return {name: file_digest(path) for name, path in files.items() if path.is_file()}
