"""The steps of an ingest as plain functions: checked, fetched, copied, published.

Enters: a dump's name, a folder or None, the merged parameters. Leaves: the names that changed and the manifest.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tenacity

from flows.download import dump_files, sources
from flows.download.dump_files import Arrival, Entry, Transfer

MADE_UP = "sample"
"""The data set that the pipeline's first stage makes."""

MADE_UP_LINE = f"nothing to bring in: the pipeline makes {MADE_UP} itself, in its first stage"


def check(name: str, source: Path | None, params: Mapping[str, Any], *, photos: bool = False) -> None:
    """Raises what is wrong with the request before any server starts or any byte is fetched."""
    if photos:
        sources.dataset_of(name, params)
        sources.fetching(params)
        sources.photo_addresses(name)
    elif source is None:
        if name not in {**params["datasets"], **params["tokenizers"]}:
            dump_files.plan(name, Path(), params)  # raises, with the nearest known name
        sources.check_addresses(name, params)
        sources.fetching(params)
    else:
        dump_files.plan(name, source, params)


def is_made_up(name: str, source: Path | None, params: Mapping[str, Any]) -> bool:
    """Whether there is nothing to bring, because the pipeline itself makes the data set."""
    return name == MADE_UP and source is None and not params["datasets"].get(name, {}).get("urls")


def told(name: str, changed: Sequence[str], entries: Sequence[Entry]) -> str:
    """What an ingest left, in one line."""
    total = sum(entry.bytes for entry in entries)
    state = f"{len(changed)} new or changed" if changed else "unchanged"
    return f"{name} in {dump_files.raw_folder(name)}, {len(entries)} files, {total:,} bytes: {state}"


def bring(
    name: str, source: Path | None, params: Mapping[str, Any], *, photos: bool = False
) -> tuple[list[str], list[Entry]]:
    """Brings a dump from a folder, or it or its photos by address; returns the names that changed and the manifest."""
    if photos:
        sources.fetch_photos(name, params)
    elif source is None:
        sources.fetch_files(name, params)
    dump_files.discard_staging(name)
    transfers = sources.plan_fetched(name, params) if source is None else dump_files.plan(name, source, params)
    arrivals = [_copied(transfer, name) for transfer in transfers]
    return dump_files.publish(name, arrivals), dump_files.read_manifest(dump_files.raw_folder(name))


def _copied(transfer: Transfer, name: str) -> Arrival:
    """One file in the staging folder, compared with its source; a disk that fails for a moment is tried again."""
    tries = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(OSError), stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_fixed(1), reraise=True,
    )  # fmt: skip
    arrival = tries(dump_files.fetch, transfer, name)
    dump_files.verify(transfer, arrival)
    return arrival
