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
from pathlib import Path

from features.runtime import stage
from pipelines.synthetic.config import Params

SECTIONS: tuple[str, ...] = ()
READS: tuple[str, ...] = ()
WRITES = ("data/raw/sample",)

REVIEWS, METADATA, PHOTOS = "reviews_Sample_5.json.gz", "meta_Sample.json.gz", "photos/photos-00000.tar"


def run(params: Params, context: stage.Context) -> int:
    """Generate a small synthetic dump in the 2014 format, with faulty lines and drawn photos."""
    from pipelines.synthetic import dump_files, world

    folder = context.root / "data" / "raw" / "sample"
    staging = folder.with_name(".sample.staging")
    shutil.rmtree(staging, ignore_errors=True)
    (staging / PHOTOS).parent.mkdir(parents=True)
    made = world.plan(params, context.seed)
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
