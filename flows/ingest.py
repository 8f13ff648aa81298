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
from collections.abc import Sequence
from pathlib import Path

from features.errors import InputError, VIP5Error
from features.runtime.profiles import dump_params
from features.runtime.stage import configure_logging
from flows.orchestration import prefect_env

log = logging.getLogger("vip5")


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


def _ingest(name: str, source: Path | None, *, photos: bool) -> int:
    from flows.download import ingest_steps as steps

    params = dump_params(name)
    if not photos and steps.is_made_up(name, source, params):
        log.info("ingest: %s", steps.MADE_UP_LINE)
        return 0
    steps.check(name, source, params, photos=photos)
    if not prefect_env.use_server("ingest"):
        found = steps.bring(name, source, params, photos=photos)
    else:
        prefect_env.prepare()
        from flows.download.prefect_flow import ingest, ingest_photos

        found = ingest_photos(name, params) if photos else ingest(name, source, params)
    log.info("ingest: %s", steps.told(name, *found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
