"""What the beginning of a file looks like: the dataset format that would read it, and its part in a dataset."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["reviews", "items", "maps", "photos", "photo_keys", "vectors", "vector_keys"]
IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
class Look:
    """What the beginning of a file looks like.

    `format` is the entry of `datasets.NAME.format` that reads the file, None if there is none; `columns` are the names
    in its header or the keys of its objects; `summary` completes "this looks like ...", such as
    "a CSV table with the columns user_id, parent_asin, rating, timestamp".
    """

    format: str | None
    kind: Kind | None
    columns: tuple[str, ...] = ()
    summary: str


def nothing(summary: str, columns: tuple[str, ...] = ()) -> Look:
    """The look of a file that no format reads."""
    return Look(format=None, kind=None, columns=columns, summary=summary)


def some(names: tuple[str, ...], most: int = 6) -> str:
    """Up to `most` of the names for a message, each shortened."""
    shown = [name if len(name) <= 40 else name[:37] + "..." for name in names[:most]]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")
