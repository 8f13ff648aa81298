"""What a dataset is: the format and the file names of one dump.

Enters: one entry of `datasets` in `params.yaml`. Leaves: a `Dataset`.
Trade-off: file names are listed, not guessed from the folder, so that a missing file is named before any work.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from features.runtime.params import build

P5_PICKLES = ("user_id2name.pkl", "exp_splits.pkl")


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One dump in `data/raw/<name>/`."""

    format: Literal["amazon2014", "amazon2018", "amazon2023", "p5"]
    """How its lines are written."""
    reviews: tuple[str, ...]
    """File names of the reviews; for p5 the sequences, the number maps and, if there are, pickles of the bundle:
    `user_id2name.pkl` (names) and `exp_splits.pkl` (the reviews that an explanation was made of)."""
    metadata: tuple[str, ...]
    """File names of the item metadata."""
    photos: str | None = None
    """Folder of `<item key>.jpg` files or of tar archives of such; null where the dump has no photos."""
    vectors: str | None = None
    """Folder of `<item key>.npy` files, ready image features that `images` takes instead of encoding the photos."""
    urls: dict[str, str] = field(default_factory=dict)
    """File name to the address that `flows.ingest` fetches it from."""
    sha256: dict[str, str] = field(default_factory=dict)
    """File name to the SHA-256 that a fetched file must have, in hexadecimal."""

    def __post_init__(self) -> None:
        if not self.reviews:
            raise ValueError("reviews = []: at least one file name is needed")
        folders = [folder for folder in (self.photos, self.vectors) if folder is not None]
        for name in (*self.reviews, *self.metadata, *folders):
            if not name or name.startswith(("/", "~")) or ".." in name.split("/"):
                raise ValueError(f"file name {name!r} must lie inside the dump's folder")
        pickles = [name for name in self.reviews[2:] if name.rsplit("/", 1)[-1] not in P5_PICKLES]
        if self.format == "p5" and (len(self.reviews) < 2 or pickles):
            raise ValueError(
                "format p5 needs two review files, the sequences, then datamaps.json, and may have "
                f"{' and '.join(P5_PICKLES)} after them"
            )
        for table in (self.urls, self.sha256):
            if strangers := sorted(set(table) - set(self.files)):
                raise ValueError(f"addresses or digests of {strangers}, which are not among the files {self.files}")
        repeated = sorted({name for name in self.files if self.files.count(name) > 1})
        if repeated:
            raise ValueError(f"file names {repeated} are listed more than once")

    @property
    def files(self) -> tuple[str, ...]:
        """All listed file names, reviews first."""
        return (*self.reviews, *self.metadata)


def dataset(shared: Mapping[str, Any], name: str) -> Dataset:
    """The entry `datasets.<name>` as a stage with SECTIONS = ("datasets",) finds it in its context."""
    return build(Dataset, shared["datasets"], where=f"datasets.{name}")
