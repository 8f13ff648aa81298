"""The record of downloaded photos: the SHA-256 that each photo of a shard had when it was downloaded.

`flows.ingest NAME --photos` writes it into the photo folder; the stage `images` compares it with the photos.
"""

import json
from pathlib import Path

from features.errors import InputError

RECORD = "digests.json"


def read_record(folder: Path) -> dict[str, str]:
    """SHA-256 by source, such as `photos-00000.tar:B1.jpg`; empty if the photos were not downloaded by this project.

    Raises:
        InputError: the file is not such a record.
    """
    path = folder / RECORD
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(digest, str) for digest in found.values()):
        raise InputError(
            f"{path} that cannot be read", "the digests of the photos beside it",
            "delete it and run flows.ingest with --photos again",
        )  # fmt: skip
    return found
