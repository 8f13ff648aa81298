"""The files of a dump: planned, copied atomically, and listed with sizes and SHA-256.

Reads a source folder and an entry of `datasets` or `tokenizers` in `params.yaml`. Writes `data/raw/<name>/` with
`manifest.json`, a list of {"name", "bytes", "sha256"}.

Trade-off: every file is staged beside its destination and renamed at the end, which needs twice the disk for a moment
and never leaves a partial dump.
"""

import json
import logging
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from tqdm import tqdm

from features.errors import InputError, ParamsError
from features.runtime.datasets import Dataset
from features.runtime.params import build, nearest
from features.store.manifests import file_digest
from flows.download.tar_shards import PHOTOS_PER_SHARD, find_photos, shard_digest, write_shard
from flows.download.temporary_files import remove_strays, temporary

log = logging.getLogger("vip5")
MANIFEST = "manifest.json"
_BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """A file to copy to `name` below `data/raw/<dump>/`, and its sources.

    With `packed`, `sources` are photos of `folder` that are packed into one tar shard. Otherwise the single source is
    copied, or hard-linked if `ours` is set (a download of this project, which is never modified) and the file system
    allows it.
    """

    name: str
    sources: tuple[Path, ...]
    packed: bool = False
    folder: Path | None = None
    ours: bool = False


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One entry of the manifest."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """The result of a transfer; `staged` is the staged file, or None if the destination was up to date."""

    entry: Entry
    staged: Path | None


def raw_folder(name: str, root: Path = Path()) -> Path:
    """The folder of a dump: `data/raw/<name>`."""
    return root / "data" / "raw" / name


def staging_folder(name: str, root: Path = Path()) -> Path:
    """The staging folder of a dump, on the same file system; DVC does not track it."""
    return root / "data" / "raw" / f".{name}.staging"


def plan(name: str, source: Path, params: Mapping[str, Any], root: Path = Path()) -> tuple[Transfer, ...]:
    """Plans the transfers of dump `name` from `source`, sorted by name; writes nothing.

    Args:
        name: a key of `datasets` or `tokenizers` in `params`.
        source: the folder that holds the files under the names in `params`, and the photo folder or archives if any.
        params: the content of `params.yaml` with the profile merged in.
        root: the repository root.

    Raises:
        ParamsError: the dump does not exist, or its entry is invalid.
        InputError: `source`, one of its files or its photos are missing.
    """
    if name not in {**params["datasets"], **params["tokenizers"]}:
        known = [*params["datasets"], *params["tokenizers"]]
        raise ParamsError(f"dump {name!r}", nearest(name, known), "add it to `datasets` or `tokenizers` of params.yaml")
    if not source.is_dir():
        raise InputError(f"no folder {source}", f"the folder that holds the files of {name}", "check --from")
    if source.resolve() == raw_folder(name, root).resolve():
        raise InputError(f"--from {source}, the dump's own folder", "another folder", "move the files elsewhere first")
    if name in params["tokenizers"]:
        return tuple(_plain(file, source, name) for file in sorted(params["tokenizers"][name]))
    dataset = build(Dataset, params["datasets"][name], where=f"datasets.{name}")
    tables = [file for file in (dataset.photo_keys, dataset.vector_keys) if file is not None]
    transfers = [_plain(file, source, name) for file in (*dataset.files, *tables)]
    if dataset.photos is not None:
        transfers += _photos(dataset.photos, source, name, {path for one in transfers for path in one.sources})
    if dataset.vectors is not None:
        transfers += _vectors(dataset.vectors, source, name)
    return tuple(sorted(transfers, key=lambda transfer: transfer.name))


def _plain(file: str, source: Path, name: str) -> Transfer:
    path = source / file
    if not path.is_file():
        there = ", ".join(sorted(entry.name for entry in source.iterdir())[:8]) or "nothing"
        raise InputError(
            f"no file {file} in {source} (it holds {there})",
            f"the files that params.yaml lists for {name}",
            f"check --from, or correct the file names of {name} in params.yaml",
        )
    return Transfer(name=file, sources=(path,))


def _photos(folder: str, source: Path, name: str, own: Collection[Path]) -> list[Transfer]:
    if folder.endswith(".tar"):
        return [_plain(folder, source, name)]
    archives, photos = find_photos(source / folder, name, own)
    transfers = [Transfer(name=_inside(folder, path.name), sources=(path,)) for path in archives]
    taken = {transfer.name for transfer in transfers}
    for index, start in enumerate(range(0, len(photos), PHOTOS_PER_SHARD)):
        shard = _inside(folder, f"photos-{index:05d}.tar")
        if shard in taken:
            raise InputError(
                f"both loose photos and an archive {shard}", "one of the two", f"move the loose photos out of {source}"
            )
        part = tuple(photos[start : start + PHOTOS_PER_SHARD])
        transfers.append(Transfer(name=shard, sources=part, packed=True, folder=source / folder))
    return transfers


def _inside(folder: str, file: str) -> str:
    """`folder/file` in its plain form; the folder may be `.`."""
    return PurePosixPath(folder, file).as_posix()


def _vectors(folder: str, source: Path, name: str) -> list[Transfer]:
    if folder.endswith((".npy", ".b")):
        return [_plain(folder, source, name)]
    found = sorted(path for path in (source / folder).glob("*.npy") if path.is_file())
    if not found:
        raise InputError(
            f"no .npy file in {source / folder}", f"the features that params.yaml lists for {name}",
            "check --from, or write `vectors: null` for the dataset in params.yaml",
        )  # fmt: skip
    return [Transfer(name=_inside(folder, path.name), sources=(path,)) for path in found]


def fetch(transfer: Transfer, name: str, root: Path = Path()) -> Arrival:
    """Copies one file into the staging folder of dump `name` and flushes it; skips a file that is up to date.

    Idempotent, and safe to run concurrently with the transfers of other files.
    """
    present = raw_folder(name, root) / transfer.name
    staged = staging_folder(name, root) / transfer.name
    if not transfer.packed and _same(transfer.sources[0], present):
        return Arrival(entry=_entry(transfer.name, present), staged=None)
    staged.parent.mkdir(parents=True, exist_ok=True)
    if transfer.ours and _linked(transfer.sources[0], staged):
        return Arrival(entry=_entry(transfer.name, staged), staged=staged)
    with staged.open("wb") as stream:
        if transfer.packed:
            write_shard(transfer.sources, stream, transfer.folder)
        else:
            _copy(transfer.sources[0], stream)
        stream.flush()
        os.fsync(stream.fileno())
    if _same(staged, present):
        staged.unlink()
        return Arrival(entry=_entry(transfer.name, present), staged=None)
    return Arrival(entry=_entry(transfer.name, staged), staged=staged)


def verify(transfer: Transfer, arrival: Arrival) -> None:
    """Raises InputError unless the copy equals the current content of its source."""
    if transfer.ours and arrival.staged is not None and arrival.staged.samefile(transfer.sources[0]):
        return
    now = shard_digest(transfer.sources, transfer.folder) if transfer.packed else file_digest(transfer.sources[0])
    if now != arrival.entry.sha256:
        raise InputError(
            f"{transfer.name} that changed while it was copied", "an unchanged file", "run the ingest again"
        )


def publish(name: str, arrivals: Sequence[Arrival], root: Path = Path()) -> list[str]:
    """Renames every staged file to its destination and writes the manifest last; returns the names that changed.

    The old manifest is deleted first, so that a dump without a manifest is an incomplete one. Files that only the old
    manifest lists are deleted; files that neither manifest lists are kept.
    """
    folder = raw_folder(name, root)
    remove_strays(folder)
    entries = sorted((arrival.entry for arrival in arrivals), key=lambda entry: entry.name)
    stale = {entry.name for entry in read_manifest(folder)} - {entry.name for entry in entries}
    changed = sorted({arrival.entry.name for arrival in arrivals if arrival.staged is not None} | stale)
    if changed or read_manifest(folder) != entries:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / MANIFEST).unlink(missing_ok=True)
        for arrival in arrivals:
            if arrival.staged is not None:
                (folder / arrival.entry.name).parent.mkdir(parents=True, exist_ok=True)
                arrival.staged.rename(folder / arrival.entry.name)
        for gone in sorted(stale):
            (folder / gone).unlink(missing_ok=True)
        _write_manifest(folder, entries)
    discard_staging(name, root)
    return changed


def discard_staging(name: str, root: Path = Path()) -> None:
    """Deletes the staging folder of dump `name`."""
    shutil.rmtree(staging_folder(name, root), ignore_errors=True)


def read_manifest(folder: Path) -> list[Entry]:
    """The entries of `folder/manifest.json`, sorted by name; empty without a manifest, or with a damaged one."""
    try:
        return [Entry(**entry) for entry in json.loads((folder / MANIFEST).read_text(encoding="utf-8"))]
    except (FileNotFoundError, NotADirectoryError, ValueError, TypeError):
        return []


def check_arrived(name: str, files: Sequence[str], root: Path = Path()) -> None:
    """Raises InputError, with the command to run, unless dump `name` is complete according to its manifest."""
    folder = raw_folder(name, root)
    action = f".venv/bin/python -m flows.ingest {name} --from FOLDER"
    listed = {entry.name: entry.bytes for entry in read_manifest(folder)}
    if not listed:
        state = "an incomplete dump (no manifest.json)" if folder.exists() else "no dump"
        raise InputError(f"{state} in {folder}", ", ".join(files), action)
    for file in files:
        path = folder / file
        if file not in listed or not path.is_file():
            raise InputError(f"no file {path}", "the files listed in params.yaml and the manifest", action)
        if path.stat().st_size != listed[file]:
            raise InputError(f"{path} of {path.stat().st_size} bytes", f"{listed[file]} bytes (its manifest)", action)


def _write_manifest(folder: Path, entries: Sequence[Entry]) -> None:
    lines = ",\n".join(f" {json.dumps(asdict(entry))}" for entry in entries)
    written = temporary(folder / MANIFEST)
    with written.open("w", encoding="utf-8") as stream:
        stream.write(f"[\n{lines}\n]\n")
        stream.flush()
        os.fsync(stream.fileno())
    written.rename(folder / MANIFEST)


def _copy(source: Path, stream: BinaryIO) -> None:
    total = source.stat().st_size
    with (
        source.open("rb") as reader,
        tqdm(total=total, unit="B", unit_scale=True, desc=source.name, delay=2, disable=None) as bar,
    ):
        while block := reader.read(_BLOCK_BYTES):
            stream.write(block)
            bar.update(len(block))


def _linked(source: Path, staged: Path) -> bool:
    staged.unlink(missing_ok=True)
    try:
        os.link(source, staged)
    except OSError:  # another file system, or no hard links: copy instead
        return False
    return True


def _entry(name: str, path: Path) -> Entry:
    return Entry(name=name, bytes=path.stat().st_size, sha256=file_digest(path))


def _same(one: Path, other: Path) -> bool:
    return other.is_file() and one.stat().st_size == other.stat().st_size and file_digest(one) == file_digest(other)
