"""`python -m flows.ingest NAME`: copies or downloads a dump into `data/raw/NAME/`.

Reads an entry of `datasets` or `tokenizers` in `params.yaml`, and a folder with its files or the URLs in the entry.
Writes the files, photos packed into tar shards, and `manifest.json` with sizes and SHA-256. A failed ingest leaves the
dump unchanged.

Trade-off: the same plain functions run with and without Prefect. The command starts no server, which would take ten
times as long as the copy; a configured server that is up records the run.
"""

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from features.errors import InputError, VIP5Error
from features.runtime.exit_codes import exit_code_of
from features.runtime.faults import environment_faults
from features.runtime.profiles import dump_params
from features.runtime.stage import configure_logging
from flows.orchestration import prefect_env

log = logging.getLogger("vip5")


def main(argv: Sequence[str] | None = None) -> int:
    """Ingests one dump and returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.ingest",
        description="Copy or download a dump into data/raw/NAME/ with a manifest of sizes and sha256.",
        epilog="Examples: .venv/bin/python -m flows.ingest gift_cards downloads from the URLs in params.yaml; "
        ".venv/bin/python -m flows.ingest toys --from ../downloads/toys copies; tokenizers work the same way: "
        ".venv/bin/python -m flows.ingest t5_tokenizer --from ../downloads/t5. Unchanged files are kept and "
        "interrupted downloads are resumed. No server is needed; if PREFECT_API_URL or Prefect's profile names one "
        "that is up, it records the run.",
    )
    parser.add_argument("name", metavar="NAME", help="an entry of `datasets` or of `tokenizers` in params.yaml")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--from", dest="source", type=Path, metavar="FOLDER",
        help="folder that holds the files under the names in params.yaml, and the photo folder or archives if any; "
        "without it the files are downloaded (datasets.NAME.urls)",
    )  # fmt: skip
    choice.add_argument(
        "--photos", action="store_true", help="download the items' photos instead, from the URLs in records/items"
    )
    arguments = parser.parse_args(argv)
    configure_logging()
    try:
        with environment_faults(InputError):
            return _ingest(arguments.name, arguments.source, photos=arguments.photos)
    except VIP5Error as error:
        log.error("ingest: %s", error)
        return error.exit_code
    except KeyboardInterrupt:
        log.error("ingest: interrupted; data/raw/%s is unchanged", arguments.name)
        return 130


def _ingest(name: str, source: Path | None, *, photos: bool) -> int:
    from flows.download import ingest_steps as steps

    params = dump_params(name)
    if not photos and steps.is_synthetic(name, source, params):
        log.info("ingest: %s", steps.SYNTHETIC_MESSAGE)
        return 0
    steps.check(name, source, params, photos=photos)
    if not prefect_env.use_server("ingest"):
        found = steps.ingest(name, source, params, photos=photos)
    else:
        prefect_env.prepare()
        from flows.download.prefect_flow import ingest, ingest_photos

        found = ingest_photos(name, params) if photos else ingest(name, source, params)
    log.info("ingest: %s", steps.summary_line(name, *found))
    return 0


if __name__ == "__main__":
    sys.exit(exit_code_of("ingest", main))
