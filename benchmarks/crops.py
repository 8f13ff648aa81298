"""Many different photos from a few: each original is cropped a little differently, again and again.

Enters: a folder of JPEGs. Leaves: `count` JPEGs, P000000.jpg and so on, and one JSON object on standard output.
Trade-off: a process for every core, each of which decodes an original once for all its crops; it is a command of its
own, so that these processes import nothing but PIL.

    .venv/bin/python -m benchmarks.crops FOLDER INTO --count 50000 [--enlarge 1] [--workers 0]
"""

import argparse
import json
import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from PIL import Image

MARGIN = 16  # of the left, upper and right side at most so many pixels go, less one
CROPS_OF_ONE = MARGIN**3


def make_photos(source: Path, folder: Path, count: int, enlarge: int, workers: int = 0) -> dict[str, float]:
    """Writes `count` different photos and says how large they are.

    Raises:
        ValueError: the originals do not suffice.
    """
    originals = sorted(path for path in source.rglob("*") if path.suffix.lower() in {".jpg", ".jpeg"})
    if not 0 < count <= len(originals) * CROPS_OF_ONE:
        raise ValueError(f"{count} photos from {len(originals)} originals: at most {CROPS_OF_ONE} of each")
    share = partial(crop_all, folder=folder, count=count, step=len(originals), enlarge=enlarge)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers or cores, mp_context=context) as pool:
        made = list(pool.map(share, originals, range(len(originals))))
    kilobytes, megapixels = sum(one[0] for one in made) / 1e3, sum(one[1] for one in made) / 1e6
    return {
        "originals": len(originals),
        "kilobytes_each": round(kilobytes / count, 1),
        "megapixels_each": round(megapixels / count, 3),
    }


def crop_all(original: Path, place: int, *, folder: Path, count: int, step: int, enlarge: int) -> tuple[int, int]:
    """Writes the photos `place`, `place + step`, ... below `count`; returns their bytes and pixels."""
    num_bytes = num_pixels = 0
    with Image.open(original) as opened:
        whole = opened.convert("RGB")
    for turn, number in enumerate(range(place, count, step)):
        left, upper, right = turn % MARGIN, turn // MARGIN % MARGIN, turn // MARGIN**2
        image = whole.crop((left, upper, whole.width - right, whole.height))
        if enlarge > 1:
            image = image.resize((image.width * enlarge, image.height * enlarge), Image.Resampling.BICUBIC)
        path = folder / f"P{number:06d}.jpg"
        image.save(path, quality=85)
        num_bytes += path.stat().st_size
        num_pixels += image.width * image.height
    return num_bytes, num_pixels


def main(argv: Sequence[str] | None = None) -> int:
    """Prints what was made."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("photos", type=Path, help="folder with JPEGs")
    parser.add_argument("into", type=Path, help="folder that is there")
    parser.add_argument("--count", type=int, default=2048)
    parser.add_argument("--enlarge", type=int, default=1, help="whole number of times, for dumps with larger photos")
    parser.add_argument("--workers", type=int, default=0, help="processes; 0: one a core")
    arguments = parser.parse_args(argv)
    print(json.dumps(make_photos(
        arguments.photos, arguments.into, arguments.count, arguments.enlarge, arguments.workers
    )))  # fmt: skip
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
