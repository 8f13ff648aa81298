"""Describes a dataset: the format and file names of one dump.

Reads one entry of `datasets` in `params.yaml`.
Trade-off: files are listed explicitly, not discovered, so that a missing file is reported before any work.
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
    """Line format of the files."""
    reviews: tuple[str, ...]
    """File names of the reviews; for p5 the sequences, the number maps and optional pickles of the bundle:
    `user_id2name.pkl` (names) and `exp_splits.pkl` (reviews with published explanations)."""
    metadata: tuple[str, ...]
    """File names of the item metadata."""
    photos: str | None = None
    """Folder of `<item key>.jpg` files or of tar archives of them; null if the dump has no photos."""
    vectors: str | None = None
    """Folder of `<item key>.npy` files: precomputed image features that `images` uses instead of encoding photos."""
    urls: tuple[str, ...] | dict[str, str] = ()
    """URLs from which `flows.ingest` downloads the files: a list of URLs that end with the file names, or a mapping of
    file name to URL."""
    sha256: dict[str, str] = field(default_factory=dict)
    """File name to the expected SHA-256 of the downloaded file, in hexadecimal."""

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
        for table in (self.url_by_file, self.sha256):
            if unknown := sorted(set(table) - set(self.files)):
                raise ValueError(f"urls or sha256 of {unknown}, which are not among the files {self.files}")
        repeated = sorted({name for name in self.files if self.files.count(name) > 1})
        if repeated:
            raise ValueError(f"file names {repeated} are listed more than once")

    @property
    def files(self) -> tuple[str, ...]:
        """All listed file names, reviews first."""
        return (*self.reviews, *self.metadata)

    @property
    def url_by_file(self) -> dict[str, str]:
        """File name to URL."""
        if isinstance(self.urls, dict):
            return dict(self.urls)
        return {url.rsplit("/", 1)[-1]: url for url in self.urls}


def dataset(shared: Mapping[str, Any], name: str) -> Dataset:
    """The entry `datasets.<name>` as a stage with SECTIONS = ("datasets",) finds it in its context."""
    return build(Dataset, shared["datasets"], where=f"datasets.{name}")
