"""The steps of an ingest as plain functions: check, download, copy, publish."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tenacity

from flows.download import dump_files, sources
from flows.download.dump_files import Arrival, Entry, Transfer
from flows.execution.workspace_lock import dump_lock

SYNTHETIC = "sample"
"""The dataset that the pipeline's first stage generates."""

SYNTHETIC_MESSAGE = f"nothing to ingest: the first stage of the pipeline generates {SYNTHETIC}"


def check(name: str, source: Path | None, params: Mapping[str, Any], *, photos: bool = False) -> None:
    """Validates the request; raises before a server is started or anything is downloaded."""
    if photos:
        sources.dataset_of(name, params)
        sources.ingest_params(params)
        sources.photo_urls(name)
    elif source is None:
        if name not in {**params["datasets"], **params["tokenizers"]}:
            dump_files.plan(name, Path(), params)  # raises, with the nearest known name
        sources.check_urls(name, params)
        sources.ingest_params(params)
    else:
        dump_files.plan(name, source, params)


def is_synthetic(name: str, source: Path | None, params: Mapping[str, Any]) -> bool:
    """Whether the pipeline generates the dataset, so that there is nothing to ingest."""
    return name == SYNTHETIC and source is None and not params["datasets"].get(name, {}).get("urls")


def summary_line(name: str, changed: Sequence[str], entries: Sequence[Entry]) -> str:
    """The result of an ingest in one line."""
    total = sum(entry.bytes for entry in entries)
    state = f"{len(changed)} new or changed" if changed else "unchanged"
    return f"{name} in {dump_files.raw_folder(name)}, {len(entries)} files, {total:,} bytes: {state}"


def ingest(
    name: str, source: Path | None, params: Mapping[str, Any], *, photos: bool = False
) -> tuple[list[str], list[Entry]]:
    """Copies a dump from a folder, or downloads it or its photos, under the lock of the dump.

    Returns:
        the names of the changed files, and the entries of the manifest.

    Raises:
        BusyError: another process ingests this dump.
    """
    with dump_lock(name):
        if photos:
            sources.fetch_photos(name, params)
        elif source is None:
            sources.fetch_files(name, params)
        dump_files.discard_staging(name)
        transfers = sources.plan_fetched(name, params) if source is None else dump_files.plan(name, source, params)
        arrivals = [_copied(transfer, name) for transfer in transfers]
        return dump_files.publish(name, arrivals), dump_files.read_manifest(dump_files.raw_folder(name))


def _copied(transfer: Transfer, name: str) -> Arrival:
    """Copies one file into the staging folder and verifies it; retries after an OSError."""
    tries = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(OSError), stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_fixed(1), reraise=True,
    )  # fmt: skip
    arrival = tries(dump_files.fetch, transfer, name)
    dump_files.verify(transfer, arrival)
    return arrival
