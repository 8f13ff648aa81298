"""Brings a dump into `data/raw/NAME/` with a manifest of sizes and SHA-256.

Enters: the name of an entry of `datasets` or `tokenizers` in `params.yaml`, and a folder that holds its files or the
addresses in the entry.
Leaves: the files, photos packed into tar shards, and `manifest.json`; or nothing, and one line that says why.
Trade-off: the same plain functions run with and without Prefect. A run that is typed by hand starts no server, which
would take ten times as long as the copying; where a server is configured and answers, it has the record of the run.
"""

import argparse
import logging
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.errors import InputError, VIP5Error
from features.params import load_yaml, merge
from features.stage import configure_logging
from flows import prefect_env

if TYPE_CHECKING:
    from flows.dumps import Arrival, Entry, Transfer

log = logging.getLogger("vip5")
MADE_UP = "sample"
"""The data set that the pipeline's first stage makes."""
MADE_UP_LINE = f"nothing to bring in: the pipeline makes {MADE_UP} itself, in its first stage"


def dump_params(name: str, root: Path = Path()) -> dict[str, Any]:
    """`params.yaml` with `profiles/<name>.yaml` laid over it where there is one."""
    params = {"datasets": {}, "tokenizers": {}} | load_yaml(root / "params.yaml")
    profile = root / "profiles" / f"{name}.yaml"
    return merge(params, load_yaml(profile)) if profile.is_file() else params


def main(argv: Sequence[str] | None = None) -> int:
    """Brings one dump in and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.ingest",
        description="Bring a dump into data/raw/NAME/ with a manifest of sizes and sha256.",
        epilog="Examples: .venv/bin/python -m flows.ingest gift_cards fetches by the addresses in params.yaml; "
        ".venv/bin/python -m flows.ingest toys --from ../downloads/toys copies; a tokenizer comes the same way: "
        ".venv/bin/python -m flows.ingest t5_tokenizer --from ../downloads/t5. Running it again changes nothing where "
        "the files are the same; what was broken off is resumed. No server is needed; where PREFECT_API_URL or "
        "Prefect's profile names one that answers, it has the record of the run.",
    )
    parser.add_argument("name", metavar="NAME", help="an entry of `datasets` or of `tokenizers` in params.yaml")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--from", dest="source", type=Path, metavar="FOLDER",
        help="folder that holds the files under the names in params.yaml, and the photo folder or archives if any; "
        "without it the files are fetched by their addresses (datasets.NAME.urls)",
    )  # fmt: skip
    choice.add_argument(
        "--photos", action="store_true", help="fetch the items' photos instead, by the addresses in records/items"
    )
    arguments = parser.parse_args(argv)
    configure_logging()
    try:
        return _ingest(arguments.name, arguments.source, photos=arguments.photos)
    except VIP5Error as error:
        log.error("ingest: %s", error)
        return error.exit_code
    except KeyboardInterrupt:
        log.error("ingest: interrupted; data/raw/%s is as it was before", arguments.name)
        return 130
    except OSError as error:  # a full disk or a forbidden folder
        log.error("ingest: found %s; expected room and rights to copy; do: mend it and run again", error)
        return InputError.exit_code


def check(name: str, source: Path | None, params: Mapping[str, Any], *, photos: bool = False) -> None:
    """Raises what is wrong with the request before any server starts or any byte is fetched."""
    from flows import sources
    from flows.dumps import plan

    if photos:
        sources.dataset_of(name, params)
        sources.fetching(params)
        sources.photo_addresses(name)
    elif source is None:
        if name not in {**params["datasets"], **params["tokenizers"]}:
            plan(name, Path(), params)  # raises, with the nearest known name
        sources.check_addresses(name, params)
        sources.fetching(params)
    else:
        plan(name, source, params)


def _ingest(name: str, source: Path | None, *, photos: bool) -> int:
    params = dump_params(name)
    if not photos and is_made_up(name, source, params):
        log.info("ingest: %s", MADE_UP_LINE)
        return 0
    check(name, source, params, photos=photos)
    if not prefect_env.use_server("ingest"):
        found = bring(name, source, params, photos=photos)
    else:
        prefect_env.prepare()
        from flows.ingest_flow import ingest, ingest_photos

        found = ingest_photos(name, params) if photos else ingest(name, source, params)
    log.info("ingest: %s", told(name, *found))
    return 0


def is_made_up(name: str, source: Path | None, params: Mapping[str, Any]) -> bool:
    """Whether there is nothing to bring, because the pipeline itself makes the data set."""
    return name == MADE_UP and source is None and not params["datasets"].get(name, {}).get("urls")


def told(name: str, changed: Sequence[str], entries: "Sequence[Entry]") -> str:
    """What an ingest left, in one line."""
    from flows.dumps import raw_folder

    total = sum(entry.bytes for entry in entries)
    state = f"{len(changed)} new or changed" if changed else "unchanged"
    return f"{name} in {raw_folder(name)}, {len(entries)} files, {total:,} bytes: {state}"


def bring(
    name: str, source: Path | None, params: Mapping[str, Any], *, photos: bool = False
) -> "tuple[list[str], list[Entry]]":
    """Brings a dump from a folder, or it or its photos by address; returns the names that changed and the manifest."""
    from flows import dumps, sources

    if photos:
        sources.fetch_photos(name, params)
    elif source is None:
        sources.fetch_files(name, params)
    dumps.discard_staging(name)
    transfers = sources.plan_fetched(name, params) if source is None else dumps.plan(name, source, params)
    arrivals = [_copied(transfer, name) for transfer in transfers]
    return dumps.publish(name, arrivals), dumps.read_manifest(dumps.raw_folder(name))


def _copied(transfer: "Transfer", name: str) -> "Arrival":
    """One file in the staging folder, compared with its source; a disk that fails for a moment is tried again."""
    import tenacity

    from flows import dumps

    tries = tenacity.Retrying(
        retry=tenacity.retry_if_exception_type(OSError), stop=tenacity.stop_after_attempt(3),
        wait=tenacity.wait_fixed(1), reraise=True,
    )  # fmt: skip
    arrival = tries(dumps.fetch, transfer, name)
    dumps.verify(transfer, arrival)
    return arrival


if __name__ == "__main__":
    sys.exit(main())
