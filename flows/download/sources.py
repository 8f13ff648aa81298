"""Where a dump comes from when it comes by address: its files, its photos, and what of them is to be put in place.

Enters: `params.yaml`, the tables of an earlier run for the photos' addresses. Leaves: files in `work/downloads/<name>/`
and the transfers that bring them to `data/raw/<name>/`.
Trade-off: downloads are kept and hard-linked into the dump, so that a second run asks "changed?" and costs no disk.
"""

import hashlib
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
from flows.download.dump_files import Transfer, raw_folder, read_manifest
from flows.download.http_client import Fetching
from flows.download.photo_log import FILE, read_outcomes, write_outcomes
from flows.download.tar_shards import add_photos, photo_names

log = logging.getLogger("vip5")


def downloads_folder(name: str, root: Path = Path()) -> Path:
    """Where what was fetched by address is kept: `work/downloads/<name>`."""
    return root / "work" / "downloads" / name


def photo_state(name: str, root: Path = Path()) -> Path:
    """Where photos wait to be packed, beside the table of outcomes."""
    return downloads_folder(name, root) / ".photos"


def fetching(params: Mapping[str, Any]) -> Fetching:
    """The section `ingest`."""
    return build(Fetching, params.get("ingest") or {}, where="ingest")


def dataset_of(name: str, params: Mapping[str, Any]) -> Dataset:
    """The entry `datasets.<name>`; ParamsError where there is none."""
    if name not in params["datasets"]:
        raise ParamsError(f"dataset {name!r}", nearest(name, params["datasets"]), "add it to `datasets` of params.yaml")
    return build(Dataset, params["datasets"][name], where=f"datasets.{name}")


def check_addresses(name: str, params: Mapping[str, Any]) -> Dataset:
    """The dataset, every file of which has an address.

    Raises:
        ParamsError: no such dump, or a wrong entry.
        InputError: a file has no address, or the dump is a tokenizer.
    """
    action = (
        f"add them to datasets.{name}.urls, or download the files and run "
        f".venv/bin/python -m flows.ingest {name} --from FOLDER"
    )
    if name in params["tokenizers"]:
        raise InputError(f"no --from for the tokenizer {name}", "a folder: tokenizers have no addresses", action)
    dataset = dataset_of(name, params)
    without = [file for file in dataset.files if file not in dataset.urls]
    if without:
        raise InputError(f"no address for {', '.join(without)} of {name}, and no --from", "one for every file", action)
    return dataset


def fetch_files(name: str, params: Mapping[str, Any], root: Path = Path()) -> dict[str, str]:
    """Downloads the files of `name`; returns fetched or unchanged by file."""
    from flows.download.file_download import Remote, download

    dataset = check_addresses(name, params)
    remotes = [Remote(name=f, url=dataset.urls[f], sha256=dataset.sha256.get(f)) for f in dataset.files]
    return download(remotes, downloads_folder(name, root), fetching(params))


def plan_fetched(name: str, params: Mapping[str, Any], root: Path = Path()) -> tuple[Transfer, ...]:
    """The transfers from `work/downloads/<name>` to the dump's place, in the order of their names.

    Files that were never downloaded but lie in the dump's place (photos brought from a folder) stay as they are.
    """
    dataset, source, place = dataset_of(name, params), downloads_folder(name, root), raw_folder(name, root)
    found = {path.name: path for path in (source / dataset.photos).glob("*.tar")} if dataset.photos else {}
    wanted = {file: source / file for file in dataset.files} | {
        f"{dataset.photos}/{file}": path for file, path in found.items()
    }
    if dataset.photos and not found:
        wanted |= {
            e.name: place / e.name for e in read_manifest(place) if e.name.startswith(f"{dataset.photos}/")
        }  # fmt: skip
        (place / dataset.photos).mkdir(parents=True, exist_ok=True)
    transfers = []
    for file in sorted(wanted):
        path = wanted[file] if wanted[file].is_file() else place / file
        if not path.is_file():
            command = f".venv/bin/python -m flows.ingest {name}"
            raise InputError(f"no file {file} of {name}", "a dump that was ingested", command)
        transfers.append(Transfer(name=file, sources=(path,), ours=True))
    return tuple(transfers)


def fetch_photos(name: str, params: Mapping[str, Any], root: Path = Path()) -> Counter[str]:
    """Fetches the photos of the items and packs them into shards; returns how many had which outcome.

    Raises:
        InputError: the dataset names no photo folder, or the tables with the addresses are not there.
    """
    from flows.download import photo_download

    dataset = dataset_of(name, params)
    if dataset.photos is None:
        raise InputError(
            f"no photo folder for {name}", "a folder name to put them into", f"set datasets.{name}.photos: photos"
        )
    wanted = [photo_download.Wanted(item_key=key, url=url) for key, url in photo_addresses(name, root).items()]
    state = photo_state(name, root)
    counts = photo_download.fetch_photos(wanted, state, fetching(params))
    pack(state, downloads_folder(name, root) / dataset.photos)
    return counts


def photo_addresses(name: str, root: Path = Path()) -> dict[str, str]:
    """Item key to address: of the catalogue where there is one, else of every item of the dump."""
    places = Places(dataset=name, root=root)
    if not (places.table("records/items") / MANIFEST).is_file():
        raise InputError(
            f"no table data/{name}/records/items, which holds the photos' addresses", "the stage `records` done",
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
    """Moves the photos that arrived into shards; one whose bytes are not those on record is asked for again."""
    from flows.download.photo_download import INCOMING

    outcomes = read_outcomes(state / FILE)
    recorded = {one.name: one.sha256 for one in outcomes.values() if one.held}
    written = []
    if (state / INCOMING).is_file():
        written = add_photos(
            state / INCOMING, folder, lambda name, data: hashlib.sha256(data).hexdigest() == recorded.get(name)
        )
    there = photo_names(folder)
    write_outcomes(state / FILE, {key: one for key, one in outcomes.items() if not one.held or one.name in there})
    if written:
        log.info("ingest: photos into %s", ", ".join(written))
    return written
