"""Stage `sample`: generates a synthetic dump in the 2014 format, with the faults of real dumps.

Writes `data/raw/sample/`: gzipped JSON lines of reviews, gzipped Python-literal lines of metadata, and a tar of photos.
Photos carry a signal that no text contains; `pipelines/synthetic/world.py` describes the planted structure.
Trade-off: a few hundred users, so that the whole pipeline runs in minutes; it shows that a model works, not how well.
"""

import gzip
import io
import shutil
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from features.runtime import stage
from pipelines.synthetic import world


@dataclass(frozen=True, kw_only=True)
class Params:
    """Size, structure and faults of the sample."""

    num_users: int = 800
    """Users with at least five purchases."""
    items_per_cell: int = 6
    """Items for each of the 6 categories and 8 styles."""
    mean_interactions: float = 7.5
    """Mean number of purchases per user, at least 5."""
    style_fidelity: float = 0.98
    """Probability that the next item's style is the successor of the last one's; otherwise it is uniform."""
    taste_fidelity: float = 0.95
    """Probability that a purchase is in one of the user's two categories; otherwise the category is uniform."""
    popularity_skew: float = 0.5
    """Exponent of the rank within a cell: 0 makes all items equally popular."""
    num_rare_users: int = 20
    """Users with fewer than five purchases, removed by the 5-core."""
    num_rare_items: int = 12
    """Items with one or two reviews, removed by the 5-core."""
    num_duplicate_reviews: int = 10
    """Additional later reviews of a user and item that already have one."""
    photo_pixels: int = 96
    """Width and height of a photo, in pixels."""
    missing_photo_share: float = 0.03
    """Share of the items without a photo."""
    num_broken_photos: int = 6
    """Photos that are truncated, text or empty."""
    featureless_review_share: float = 0.8
    """Share of the reviews that mention no feature, so that no explanation can be extracted."""
    num_dirty_lines: int = 3
    """Number of review lines per kind of fault."""

    def __post_init__(self) -> None:
        for name in ("style_fidelity", "taste_fidelity", "missing_photo_share", "featureless_review_share"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} = {getattr(self, name)} must lie between 0 and 1")
        if self.num_users < 1 or self.items_per_cell < 1 or self.photo_pixels < 16:
            raise ValueError("num_users and items_per_cell must be at least 1, photo_pixels at least 16")
        if self.mean_interactions < 5:
            raise ValueError(f"mean_interactions = {self.mean_interactions} must be at least 5")
        if min(self.num_rare_users, self.num_rare_items, self.num_duplicate_reviews, self.num_broken_photos) < 0:
            raise ValueError("counts must not be negative")


SECTIONS: tuple[str, ...] = ()
READS: tuple[str, ...] = ()
WRITES = ("data/raw/sample",)

REVIEWS, METADATA, PHOTOS = "reviews_Sample_5.json.gz", "meta_Sample.json.gz", "photos/photos-00000.tar"


def run(params: Params, context: stage.Context) -> int:
    """Generate a small synthetic dump in the 2014 format, with faulty lines and drawn photos."""
    from pipelines.synthetic import dump_files

    folder = context.root / "data" / "raw" / "sample"
    staging = folder.with_name(".sample.staging")
    shutil.rmtree(staging, ignore_errors=True)
    (staging / PHOTOS).parent.mkdir(parents=True)
    made = planned(params, context.seed)
    reviews = dump_files.review_lines(made, params.num_dirty_lines, params.featureless_review_share, context.seed)
    metadata = dump_files.metadata_lines(made, params.num_dirty_lines, context.seed)
    photos = dump_files.photos(
        made, params.photo_pixels, params.missing_photo_share, params.num_broken_photos, context.seed
    )
    write_gzip(staging / REVIEWS, reviews)
    write_gzip(staging / METADATA, metadata)
    write_tar(staging / PHOTOS, photos)
    shutil.rmtree(folder, ignore_errors=True)
    staging.rename(folder)
    return len(reviews) + len(metadata) + len(photos)


def planned(params: Params, seed: int) -> world.World:
    """The ground truth behind the dump for these parameters and this seed: styles, tastes and purchases."""
    names = world.Sizes.__dataclass_fields__
    return world.plan(world.Sizes(**{k: v for k, v in asdict(params).items() if k in names}), seed)


def write_gzip(path: Path, lines: Sequence[bytes]) -> None:
    """Writes lines as one gzip member without name or time, so that the bytes are reproducible."""
    buffer = io.BytesIO()
    with gzip.GzipFile(filename="", fileobj=buffer, mode="wb", compresslevel=6, mtime=0) as stream:
        stream.writelines(line + b"\n" for line in lines)
    path.write_bytes(buffer.getvalue())


def write_tar(path: Path, members: Sequence[tuple[str, bytes]]) -> None:
    """Writes (name, bytes) members without owner or time, in the given order."""
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage from the command line."""
    return stage.main("sample", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
