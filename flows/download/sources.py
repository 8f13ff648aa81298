"""Downloads the files and photos of a dump and plans their transfer into it.

Reads `params.yaml`, and for the photos' URLs the tables of an earlier run. Writes `work/downloads/<name>/`.

Trade-off: downloads are kept and hard-linked into the dump, so that a second run sends conditional requests and needs
no additional disk space.
"""

import json
import logging
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.errors import InputError, ParamsError
from features.runtime.datasets import Dataset
from features.runtime.params import build, nearest
from features.runtime.stage import Places
from features.schema import CATALOGUE, ITEMS
from features.store.tables import MANIFEST, read_table
from features.vision.photo_record import RECORD
from flows.download import photo_download
from flows.download.dump_files import Transfer, raw_folder, read_manifest
from flows.download.file_download import Remote, download
from flows.download.http_client import IngestParams
from flows.download.photo_log import FILE, read_outcomes, write_outcomes
from flows.download.tar_shards import add_photos, photo_names
from flows.download.temporary_files import temporary

log = logging.getLogger("vip5")


def downloads_folder(name: str, root: Path = Path()) -> Path:
    """The folder of downloaded files: `work/downloads/<name>`."""
    return root / "work" / "downloads" / name


def photo_state(name: str, root: Path = Path()) -> Path:
    """The folder of downloaded, not yet packed photos and of the log of outcomes."""
    return downloads_folder(name, root) / ".photos"


def ingest_params(params: Mapping[str, Any]) -> IngestParams:
    """Parses the section `ingest`."""
    return build(IngestParams, params.get("ingest") or {}, where="ingest")


def dataset_of(name: str, params: Mapping[str, Any]) -> Dataset:
    """Parses the entry `datasets.<name>`; raises ParamsError if there is none."""
    if name not in params["datasets"]:
        raise ParamsError(f"dataset {name!r}", nearest(name, params["datasets"]), "add it to `datasets` of params.yaml")
    return build(Dataset, params["datasets"][name], where=f"datasets.{name}")


def check_urls(name: str, params: Mapping[str, Any]) -> Dataset:
    """Returns the dataset after checking that every file has a URL.

    Raises:
        ParamsError: the dump does not exist, or its entry is invalid.
        InputError: a file has no URL, or the dump is a tokenizer.
    """
    action = (
        f"add them to datasets.{name}.urls, or download the files and run "
        f".venv/bin/python -m flows.ingest {name} --from FOLDER"
    )
    if name in params["tokenizers"]:
        raise InputError(f"no --from for the tokenizer {name}", "a folder: tokenizers have no URLs", action)
    dataset = dataset_of(name, params)
    without = [file for file in dataset.files if file not in dataset.url_by_file]
    if without:
        raise InputError(f"no URL for {', '.join(without)} of {name}, and no --from", "one for every file", action)
    return dataset


def fetch_files(name: str, params: Mapping[str, Any], root: Path = Path()) -> dict[str, str]:
    """Downloads the files of `name`; returns "fetched" or "unchanged" by file."""
    dataset = check_urls(name, params)
    remotes = [Remote(name=f, url=dataset.url_by_file[f], sha256=dataset.sha256.get(f)) for f in dataset.files]
    return download(remotes, downloads_folder(name, root), ingest_params(params))


def plan_fetched(name: str, params: Mapping[str, Any], root: Path = Path()) -> tuple[Transfer, ...]:
    """Plans the transfers from `work/downloads/<name>` to the dump, sorted by name.

    Files of the dump that were never downloaded, such as photos copied from a folder, are kept.
    """
    dataset, source, destination = dataset_of(name, params), downloads_folder(name, root), raw_folder(name, root)
    found = {path.name: path for path in (source / dataset.photos).glob("*.tar")} if dataset.photos else {}
    if found and dataset.photos and (record := source / dataset.photos / RECORD).is_file():
        found[RECORD] = record
    wanted = {file: source / file for file in dataset.files} | {
        f"{dataset.photos}/{file}": path for file, path in found.items()
    }
    beside = [dataset.photo_keys, dataset.vectors, dataset.vector_keys, *([] if found else [dataset.photos])]
    there = [entry.name for entry in read_manifest(destination)]
    for name_beside in filter(None, beside):
        wanted |= {file: destination / file for file in there if file == name_beside or _lies_in(file, name_beside)}
    if dataset.photos and not found and not dataset.photos.endswith(".tar"):
        (destination / dataset.photos).mkdir(parents=True, exist_ok=True)
    transfers = []
    for file in sorted(wanted):
        path = wanted[file] if wanted[file].is_file() else destination / file
        if not path.is_file():
            command = f".venv/bin/python -m flows.ingest {name}"
            raise InputError(f"no file {file} of {name}", "an ingested dump", command)
        transfers.append(Transfer(name=file, sources=(path,), ours=True))
    return tuple(transfers)


def _lies_in(file: str, folder: str) -> bool:
    return file.startswith(f"{folder}/") or (folder == "." and file.endswith(".tar"))


def fetch_photos(name: str, params: Mapping[str, Any], root: Path = Path()) -> Counter[str]:
    """Downloads the photos of the items and packs them into shards; returns the number of photos by outcome.

    Raises:
        InputError: the dataset has no photo folder, or the tables with the URLs do not exist.
    """
    dataset = dataset_of(name, params)
    if dataset.photos is None:
        raise InputError(f"no photo folder for {name}", "the name of a folder", f"set datasets.{name}.photos: photos")
    wanted = [photo_download.PhotoRequest(item_key=key, url=url) for key, url in photo_urls(name, root).items()]
    state = photo_state(name, root)
    counts = photo_download.fetch_photos(wanted, state, ingest_params(params))
    pack(state, downloads_folder(name, root) / dataset.photos)
    return counts


def photo_urls(name: str, root: Path = Path()) -> dict[str, str]:
    """Maps item keys to photo URLs, for the items of the catalogue if there is one, else for all items of the dump."""
    places = Places(dataset=name, root=root)
    if not (places.table("records/items") / MANIFEST).is_file():
        raise InputError(
            f"no table data/{name}/records/items, which holds the photos' URLs", "the output of stage `records`",
            f"make run PROFILE={name}, or .venv/bin/python -m flows.retrain {name}, which does both in turn",
        )  # fmt: skip
    rows = read_table(places.table("records/items"), ITEMS, columns=("item_key", "image_url"))
    addresses: dict[str, str] = {}
    for key, url in zip(rows["item_key"].to_pylist(), rows["image_url"].to_pylist(), strict=True):
        if url:
            addresses.setdefault(key, url)
    if (places.table("sequences/items") / MANIFEST).is_file():
        kept = read_table(places.table("sequences/items"), CATALOGUE, columns=("item_key",))["item_key"].to_pylist()
        addresses = {key: addresses[key] for key in sorted(kept) if key in addresses}
    return addresses


def pack(state: Path, folder: Path) -> list[str]:
    """Moves downloaded photos into shards; a photo whose SHA-256 differs from the log is downloaded again.

    Writes the record of the photos, which the stage `images` compares with their bytes.

    Returns:
        the names of the shards written.
    """
    outcomes = read_outcomes(state / FILE)
    recorded = {one.name: one.sha256 for one in outcomes.values() if one.name and one.sha256}
    incoming = state / photo_download.INCOMING
    written = add_photos(incoming, folder, recorded) if incoming.is_file() else []
    names = photo_names(folder)
    there = set(names.values())
    write_outcomes(state / FILE, {key: one for key, one in outcomes.items() if not one.held or one.name in there})
    _write_record(folder, {source: recorded[name] for source, name in names.items() if name in recorded})
    if written:
        log.info("ingest: photos written to %s", ", ".join(written))
    return written


def _write_record(folder: Path, digests: Mapping[str, str]) -> None:
    path = folder / RECORD
    path.parent.mkdir(parents=True, exist_ok=True)
    written = temporary(path)
    written.write_text(json.dumps(dict(sorted(digests.items())), indent=0) + "\n", encoding="utf-8")
    written.rename(path)
