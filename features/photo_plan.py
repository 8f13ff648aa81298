"""From the catalogue to the photos that must be encoded, and from their features back to one row an item.

Enters: item keys and the photo store; later what became of each photo. Leaves: `Seen` photos by item; `Features`.
Trade-off: every photo's bytes are read and hashed before anything is encoded (a few per cent of the time of a GPU, and
less of a CPU's), so that what is finished, equal or listed as a placeholder is never decoded.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from pathlib import PurePath

import numpy as np

from features.decoding import Rejection
from features.feeding import Job, Outcome
from features.photos import Photo, PhotoStore, read_photo
from features.shards import Found
from features.vectors import unit_rows

READ_AT_ONCE = 64  # photos a task: a message to a thread costs as much as reading a small photo
_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg"), "PNG": (".png",), "GIF": (".gif",), "WEBP": (".webp",), "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One photo of an item: its digest where its bytes were read, and why it is refused unread if it is."""

    photo: Photo
    digest: str | None
    refused: Rejection | None


@dataclass(frozen=True, kw_only=True)
class Reject:
    """A photo that was not used: the place of its item in the catalogue, its file and the reason."""

    row: int
    source: str
    rejection: Rejection


@dataclass(kw_only=True)
class Features:
    """One entry an item, all in the order of the catalogue; `vectors` (I, D) float32, zeros unless the status is ok.

    `num_photos` counts the photos behind each vector.
    """

    vectors: np.ndarray
    statuses: list[str]
    digests: list[str | None]
    treatments: list[str | None]
    num_photos: list[int]
    rejects: list[Reject]


def look(
    keys: Sequence[str],
    store: PhotoStore | None,
    *,
    most: int,
    max_bytes: float,
    placeholders: Sequence[str],
    workers: int,
) -> list[list[Seen]]:
    """The photos of each item, at most `most`, with their digests; nothing is decoded.

    Args:
        keys: item keys.
        store: None where the dataset has no photos.
        most: photos an item.
        max_bytes: larger files are not read.
        placeholders: SHA-256 digests of pictures that stand for "no photo".
        workers: threads that read.
    """
    from tqdm import tqdm

    if store is None:
        return [[] for _ in keys]
    photos = [(row, photo) for row, key in enumerate(keys) for photo in store.photos_of(key, most)]
    seen: list[list[Seen]] = [[] for _ in keys]
    glance = partial(_glance, max_bytes=max_bytes, placeholders=frozenset(placeholders))
    with (
        ThreadPoolExecutor(workers, thread_name_prefix="read") as pool,
        tqdm(total=len(photos), desc="reading", unit=" images", mininterval=1.0, disable=None) as bar,
    ):
        parts = [photos[start : start + READ_AT_ONCE] for start in range(0, len(photos), READ_AT_ONCE)]
        for glanced in pool.map(lambda part: [(row, glance(photo)) for row, photo in part], parts):
            for row, one in glanced:
                seen[row].append(one)
            bar.update(len(glanced))
    return seen


def _glance(photo: Photo, *, max_bytes: float, placeholders: frozenset[str]) -> Seen:
    if photo.refusal:
        refused = Rejection(reason=photo.refusal, detail="the file is not read")
        return Seen(photo=photo, digest=None, refused=refused)
    if photo.num_bytes > max_bytes:
        refused = Rejection(reason="too_large", detail=f"{photo.num_bytes} bytes; the file is not read")
        return Seen(photo=photo, digest=None, refused=refused)
    digest = sha256(read_photo(photo)).hexdigest()
    listed = Rejection(reason="placeholder", detail="listed in images.placeholders") if digest in placeholders else None
    return Seen(photo=photo, digest=digest, refused=listed)


def jobs_of(seen: Sequence[Sequence[Seen]]) -> dict[str, Job]:
    """What must be encoded, each digest once, in the order of the catalogue."""
    jobs: dict[str, Job] = {}
    for one in (one for photos in seen for one in photos):
        if one.digest is not None and one.refused is None:
            jobs.setdefault(one.digest, Job(digest=one.digest, photo=one.photo))
    return jobs


def merge(seen: Sequence[Sequence[Seen]], found: Found, *, max_sharing: int, normalise: bool) -> Features:
    """The row of every item, joined by digest.

    Several photos of one item give the mean of the features of the usable ones (scaled to length 1 if `normalise`).

    Args:
        seen: the photos of each item.
        found: what became of each digest.
        max_sharing: a photo that more items have is a placeholder; 0: any number may have it.
        normalise: whether features have length 1.
    """
    judged = [[(one, _judge(one, found)) for one in photos] for photos in seen]
    uses = Counter(digest for photos in judged for digest in {one.digest for one, bad in photos if bad is None})
    width = found.vectors.shape[1]
    features = Features(
        vectors=np.zeros((len(seen), width), np.float32), statuses=[], digests=[], treatments=[], num_photos=[],
        rejects=[],
    )  # fmt: skip
    for row, photos in enumerate(judged):
        used: list[Seen] = []
        for one, own_reason in photos:
            reason = own_reason or _shared(uses[one.digest], max_sharing)
            if reason is None:
                used.append(one)
            else:
                features.rejects.append(Reject(row=row, source=one.photo.source, rejection=reason))
        _add_item(features, [one for one, _ in photos], used, found=found, normalise=normalise)
    return features


def _judge(one: Seen, found: Found) -> Rejection | None:
    return one.refused or found.outcomes[found.rows[str(one.digest)]].rejection


def _shared(uses: int, max_sharing: int) -> Rejection | None:
    if not max_sharing or uses <= max_sharing:
        return None
    return Rejection(reason="placeholder", detail=f"the same photo as {uses - 1} other items")


def _add_item(
    features: Features, photos: Sequence[Seen], used: Sequence[Seen], *, found: Found, normalise: bool
) -> None:
    row = len(features.statuses)
    if len(used) == 1:
        features.vectors[row] = found.vectors[found.rows[str(used[0].digest)]]
    elif used:
        mean = found.vectors[[found.rows[str(one.digest)] for one in used]].mean(axis=0, dtype=np.float64)
        features.vectors[row] = unit_rows(mean[None])[0] if normalise else mean
    features.statuses.append("ok" if used else "rejected" if photos else "missing")
    features.digests.append(next((one.digest for one in (*used, *photos) if one.digest), None))
    features.num_photos.append(len(used))
    features.treatments.append(_treatment(used[0], found) if used else None)


def _treatment(one: Seen, found: Found) -> str | None:
    outcome: Outcome = found.outcomes[found.rows[str(one.digest)]]
    suffix = PurePath(one.photo.source).suffix.lower()
    misnamed = ("misnamed",) if suffix not in _SUFFIXES.get(str(outcome.kind), ()) else ()
    return " ".join((*outcome.treatment, *misnamed)) or None
