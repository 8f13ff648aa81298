"""What the beginning of a file looks like: container, layout, and the dataset format that would read it."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["reviews", "items", "maps", "photos", "photo_keys", "vectors", "vector_keys"]


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
