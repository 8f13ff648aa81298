"""Brings a dump into `data/raw/NAME/` with a manifest of sizes and SHA-256.

Enters: the name of an entry of `datasets` or `tokenizers` in `params.yaml`, and a folder that holds its files or the
addresses in the entry.
Leaves: the files, photos packed into tar shards, and `manifest.json`; or nothing, and one line that says why.
Trade-off: Prefect's own server starts for a few seconds of copying, so that retries and the record of runs are the same
for a laptop and a schedule; everything that can be wrong with the input is therefore found before it starts.
"""

import argparse
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from features.errors import InputError, VIP5Error
from features.params import load_yaml, merge
from features.stage import configure_logging

log = logging.getLogger("vip5")
_QUIET = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
}


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
        epilog="Examples: python -m flows.ingest gift_cards fetches by the addresses in params.yaml; "
        "python -m flows.ingest toys --from ../downloads/toys copies; a tokenizer comes the same way: "
        "python -m flows.ingest t5_tokenizer --from ../downloads/t5. Running it again changes nothing where the files "
        "are the same; what was broken off is resumed.",
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
    check(name, source, params, photos=photos)
    quiet_prefect()
    from flows.dumps import raw_folder
    from flows.ingest_flow import ingest, ingest_photos

    changed, entries = ingest_photos(name, params) if photos else ingest(name, source, params)
    total = sum(entry.bytes for entry in entries)
    state = f"{len(changed)} new or changed" if changed else "unchanged"
    log.info("ingest: %s in %s, %d files, %s bytes: %s", name, raw_folder(name), len(entries), f"{total:,}", state)
    return 0


def quiet_prefect(level: str = "CRITICAL") -> None:
    """Settings of Prefect that must stand before it is imported: no telemetry, no second log beside ours.

    `level` is what Prefect keeps of a run's log on its page; nothing of it is written to the terminal.
    """
    for key, value in (_QUIET | {"PREFECT_LOGGING_LEVEL": level}).items():
        os.environ.setdefault(key, value)
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_ours)


def _is_ours(record: logging.LogRecord) -> bool:
    """Whether a record is not one of Prefect's, which has its own copy of a run's lines."""
    return not record.name.startswith("prefect")


if __name__ == "__main__":
    sys.exit(main())
