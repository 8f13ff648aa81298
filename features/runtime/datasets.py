"""Describes a dataset: the format and file names of one dump.

Reads one entry of `datasets` in `params.yaml`.
Trade-off: files are listed explicitly, not discovered, so that a missing file is reported before any work.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from features.runtime.params import build

COLUMNS = (
    "user", "item", "rating", "time", "user_name", "headline", "text",
    "title", "brand", "price", "categories", "description", "image_url",
)  # fmt: skip
_WITH_COLUMNS = ("ratings", "recbole", "sequences", "openp5")
P5_PICKLES = ("user_id2name.pkl", "exp_splits.pkl")


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One dump in `data/raw/<name>/`."""

    format: Literal["amazon2014", "amazon2018", "amazon2023", "ratings", "recbole", "sequences", "openp5", "p5"]
    """Layout of the files (docs/reference/formats/README.md)."""
    reviews: tuple[str, ...]
    """File names of the reviews, ratings or sequences; for p5 the sequences, the number maps and optional pickles of
    the bundle: `user_id2name.pkl` (names) and `exp_splits.pkl` (reviews with published explanations)."""
    metadata: tuple[str, ...]
    """File names of the item metadata; may be empty."""
    columns: dict[str, str | int] = field(default_factory=dict)
    """For tables whose header has other names or that have none: user, item, rating, time, title, brand, price,
    categories, description, image_url, user_name, headline or text to the column's name in the file, or to its place
    from 1 (docs/reference/formats/ratings.md)."""
    rating_range: tuple[float, ...] = (1.0, 5.0)
    """Smallest and largest rating of the data, such as [0.5, 5] of MovieLens; a rating outside is rejected."""
    time_unit: Literal["auto", "seconds", "milliseconds"] = "auto"
    """Unit of the times: auto is the format's own; in tables, numbers from 100,000,000,000 on are milliseconds."""
    photos: str | None = None
    """Folder of photos or of tar archives of them, or one archive (docs/guides/photos.md lists the names by which they
    are found, such as `<item key>.jpg`); null if the dump has no photos."""
    photo_keys: str | None = None
    """CSV of photo name and item key, for photos that are not named by their item."""
    vectors: str | None = None
    """Precomputed image features that `images` uses instead of encoding photos: a folder of `<item key>.npy` files, one
    `.npy` matrix (with `vector_keys`), or the `image_features_X.b` of the 2014 dumps."""
    vector_keys: str | None = None
    """Item key of each row of a matrix of vectors: CSV of item key and row (from 0), one key per line, or JSON."""
    urls: tuple[str, ...] | dict[str, str] = ()
    """URLs from which `flows.ingest` downloads the files: a list of URLs that end with the file names, or a mapping of
    file name to URL."""
    sha256: dict[str, str] = field(default_factory=dict)
    """File name to the expected SHA-256 of the downloaded file, in hexadecimal."""

    def __post_init__(self) -> None:
        if not self.reviews:
            raise ValueError("reviews = []: at least one file name is needed")
        beside = (self.photos, self.photo_keys, self.vectors, self.vector_keys)
        folders = [name for name in beside if name is not None]
        for keys, owner in (("photo_keys", "photos"), ("vector_keys", "vectors")):
            if getattr(self, keys) is not None and getattr(self, owner) is None:
                raise ValueError(f"{keys} without {owner}, which it describes")
        if len(self.rating_range) != 2 or not self.rating_range[0] < self.rating_range[1]:
            raise ValueError(f"rating_range = {list(self.rating_range)} must be two numbers, the smaller first")
        self._check_columns()
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

    def _check_columns(self) -> None:
        if self.columns and self.format not in _WITH_COLUMNS:
            raise ValueError(f"columns are for the formats {', '.join(_WITH_COLUMNS)}, not for {self.format}")
        if unknown := sorted(set(self.columns) - set(COLUMNS)):
            raise ValueError(f"columns of {', '.join(unknown)}: known are {', '.join(COLUMNS)}")
        for name, value in self.columns.items():
            if value == "" or (isinstance(value, int) and value < 1):
                raise ValueError(f"columns.{name} = {value!r} must be a column's name or its place from 1")

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
