"""Indexes the catalogue's photos by content digest, and merges their features into one row per item.

Reads item keys, the photo store and the encoder's outcomes. Writes `IndexedPhoto` values per item, then `Features`.
Trade-off: each photo is read and hashed before it is decoded, in threads that run slightly ahead of the encoder.
Photos that are cached, identical or listed as placeholders are never decoded; all others are read twice.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256
from itertools import islice

import numpy as np

from features.store.embeddings import ROWS_AT_ONCE, unit_rows
from features.vision.image_decoding import Rejection
from features.vision.image_loader import Found, Job, Outcome
from features.vision.photo_record import read_record
from features.vision.photo_store import Photo, PhotoStore, read_photo

READ_AT_ONCE = 64  # photos per task: a message to a thread costs as much as reading a small photo
PARTS_AHEAD = 2  # tasks per thread that are read ahead
READERS = 8  # maximum threads: opening and hashing files mostly holds the interpreter lock
_SUFFIXES = {
    "JPEG": ("jpg", "jpeg"), "PNG": ("png",), "GIF": ("gif",), "WEBP": ("webp",), "BMP": ("bmp",),
    "TIFF": ("tif", "tiff"),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class IndexedPhoto:
    """One photo of an item. `digest` is None if its bytes were not read; `refused` says why it is not decoded."""

    photo: Photo
    digest: str | None
    refused: Rejection | None


@dataclass(frozen=True, kw_only=True)
class Reject:
    """A photo that was not used: the row of its item in the catalogue, its file and the reason."""

    row: int
    source: str
    rejection: Rejection


@dataclass(kw_only=True)
class Features:
    """One entry per item in catalogue order; `vectors` (I, D) is float32, zeros unless the status is ok.

    `num_photos` counts the photos averaged into each vector.
    """

    vectors: np.ndarray
    statuses: list[str]
    digests: list[str | None]
    treatments: list[str | None]
    num_photos: list[int]
    rejects: list[Reject]


class PhotoIndex:
    """Hashes up to `most` photos per item in background threads and yields those to encode.

    `photos_by_item` and `jobs` (distinct usable photos by digest) grow as `wanted` is consumed and are complete when it
    ends. Nothing is decoded here.

    Args:
        keys: Item keys.
        store: Photo store, or None if the dataset has no photos.
        most: Maximum number of photos per item.
        max_bytes: Larger files are not read.
        placeholders: SHA-256 digests of "no image" pictures.
        workers: Reader threads, capped at READERS because the interpreter lock limits more.
    """

    def __init__(
        self,
        keys: Sequence[str],
        store: PhotoStore | None,
        *,
        most: int,
        max_bytes: float,
        placeholders: Sequence[str],
        workers: int,
    ) -> None:
        self.photos_by_item: list[list[IndexedPhoto]] = [[] for _ in keys]
        self.jobs: dict[str, Job] = {}
        self._readers = min(workers, READERS)
        self._probe = partial(
            _probe, max_bytes=max_bytes, placeholders=frozenset(placeholders),
            record=read_record(store.folder) if store else {},
        )  # fmt: skip
        self._photos = (
            [(row, photo) for row, key in enumerate(keys) for photo in store.photos_of(key, most)] if store else []
        )
        self._to_come, self._taken = len(self._photos), 0
        self._indexed = False

    @property
    def at_most(self) -> int:
        """Upper bound on the number of photos to encode: unread photos may be duplicates or cached."""
        return self._taken + self._to_come

    def wanted(self, wants: Callable[[str], bool] = bool) -> Generator[Job]:
        """Yields each distinct photo that `wants` accepts, in catalogue order.

        The first call must be consumed to its end; a later one reads no photo again.

        Raises:
            InputError: A photo was removed or truncated after the store was built.
        """
        if self._indexed:
            chosen = [job for job in self.jobs.values() if wants(job.digest)]
            self._taken = len(chosen)
            yield from chosen
            return
        for row, one in self._probed():
            self.photos_by_item[row].append(one)
            self._to_come -= 1
            if one.digest is None or one.refused or one.digest in self.jobs:
                continue
            job = self.jobs[one.digest] = Job(digest=one.digest, photo=one.photo)
            if wants(one.digest):
                self._taken += 1
                yield job
        self._indexed = True

    def _probed(self) -> Iterator[tuple[int, IndexedPhoto]]:
        """All photos in order, read at most PARTS_AHEAD tasks per thread ahead of the consumer."""
        from tqdm import tqdm

        parts = (self._photos[start : start + READ_AT_ONCE] for start in range(0, len(self._photos), READ_AT_ONCE))
        with (
            ThreadPoolExecutor(self._readers, thread_name_prefix="read") as pool,
            tqdm(total=len(self._photos), desc="reading", unit=" images", mininterval=1.0, disable=None) as bar,
        ):
            tasks = (pool.submit(self._read, part) for part in parts)
            waiting = deque(islice(tasks, PARTS_AHEAD * self._readers))
            while waiting:
                probed = waiting.popleft().result()
                waiting.extend(islice(tasks, 1))
                yield from probed
                bar.update(len(probed))

    def _read(self, part: Sequence[tuple[int, Photo]]) -> list[tuple[int, IndexedPhoto]]:
        return [(row, self._probe(photo)) for row, photo in part]


def _probe(photo: Photo, *, max_bytes: float, placeholders: frozenset[str], record: Mapping[str, str]) -> IndexedPhoto:
    if photo.refusal:
        refused = Rejection(reason=photo.refusal, detail="the file is not read")
        return IndexedPhoto(photo=photo, digest=None, refused=refused)
    if photo.num_bytes > max_bytes:
        refused = Rejection(reason="too_large", detail=f"{photo.num_bytes} bytes; the file is not read")
        return IndexedPhoto(photo=photo, digest=None, refused=refused)
    digest = sha256(read_photo(photo)).hexdigest()
    recorded = record.get(photo.source, digest)
    if recorded != digest:
        detail = f"sha256 {digest[:16]} instead of {recorded[:16]}, as downloaded"
        return IndexedPhoto(photo=photo, digest=digest, refused=Rejection(reason="digest_mismatch", detail=detail))
    listed = Rejection(reason="placeholder", detail="listed in images.placeholders") if digest in placeholders else None
    return IndexedPhoto(photo=photo, digest=digest, refused=listed)


def merge(
    photos_by_item: Sequence[Sequence[IndexedPhoto]], found: Found, *, max_items_per_photo: int, normalise: bool
) -> Features:
    """Joins photos with their features by digest and returns one row per item.

    An item with several usable photos gets the mean of their features (scaled to length 1 if `normalise`).

    Args:
        photos_by_item: Photos of each item.
        found: Encoder outcome and feature of each digest.
        max_items_per_photo: A photo shared by more items is rejected as a placeholder; 0 disables the check.
        normalise: Whether features have length 1.
    """
    photos = [(row, one) for row, ones in enumerate(photos_by_item) for one in ones]
    rows = np.array([row for row, _ in photos], np.int64)
    places = np.array([-1 if one.refused else found.rows[str(one.digest)] for _, one in photos], np.int64)
    good = np.array([outcome.rejection is None for outcome in found.outcomes], bool)
    fine = places >= 0
    fine[fine] = good[places[fine]]
    uses = _uses(rows[fine], places[fine], len(good))
    used = fine.copy()
    if max_items_per_photo:
        used[fine] = uses[places[fine]] <= max_items_per_photo
    rejects = [
        Reject(row=row, source=one.photo.source, rejection=_reason(one, places[i], found, uses))
        for i, (row, one) in ((i, photos[i]) for i in np.flatnonzero(~used))
    ]
    counts = np.bincount(rows[used], minlength=len(photos_by_item))
    has_photo = [bool(photos_of_item) for photos_of_item in photos_by_item]
    features = Features(
        vectors=_vectors(rows[used], places[used], counts, found=found, normalise=normalise),
        statuses=np.where(counts > 0, "ok", np.where(has_photo, "rejected", "missing")).tolist(),
        digests=[None] * len(photos_by_item),
        treatments=[None] * len(photos_by_item),
        num_photos=counts.tolist(),
        rejects=rejects,
    )
    _set_first_photo(features, photos, places, used=used, found=found)
    return features


def _uses(rows: np.ndarray, places: np.ndarray, num_places: int) -> np.ndarray:
    """Number of items that have the photo at each place; duplicates within one item count once."""
    pairs = np.unique(rows * max(num_places, 1) + places)
    return np.bincount(pairs % max(num_places, 1), minlength=num_places)


def _reason(one: IndexedPhoto, place: int, found: Found, uses: np.ndarray) -> Rejection:
    rejection = one.refused or found.outcomes[place].rejection
    return rejection or Rejection(reason="placeholder", detail=f"the same photo as {uses[place] - 1} other items")


def _vectors(rows: np.ndarray, places: np.ndarray, counts: np.ndarray, *, found: Found, normalise: bool) -> np.ndarray:
    """One row per item: the feature of its only photo, or the mean of several; `rows` ascends."""
    vectors = np.zeros((len(counts), found.vectors.shape[1]), np.float32)
    alone = np.flatnonzero(counts[rows] == 1)
    for start in range(0, len(alone), ROWS_AT_ONCE):
        part = alone[start : start + ROWS_AT_ONCE]
        vectors[rows[part]] = found.vectors[places[part]]
    ends = np.cumsum(counts)
    for row in np.flatnonzero(counts > 1):
        mean = found.vectors[places[ends[row] - counts[row] : ends[row]]].mean(axis=0, dtype=np.float64)
        vectors[row] = unit_rows(mean[None])[0] if normalise else mean
    return vectors


def _set_first_photo(
    features: Features,
    photos: Sequence[tuple[int, IndexedPhoto]],
    places: np.ndarray,
    *,
    used: np.ndarray,
    found: Found,
) -> None:
    """Sets each item's digest and treatment from its first used photo, else the digest of its first hashed photo."""
    done: set[int] = set()
    for (row, one), place, in_use in zip(photos, places.tolist(), used.tolist(), strict=True):
        if in_use and row not in done:
            done.add(row)
            features.digests[row], features.treatments[row] = one.digest, _treatment_of(one, found.outcomes[place])
        elif features.digests[row] is None:
            features.digests[row] = one.digest


def _treatment_of(one: IndexedPhoto, outcome: Outcome) -> str | None:
    return _treatment(one.photo.source.rpartition(".")[2].lower(), outcome.kind, outcome.treatment)


@lru_cache(maxsize=1024)
def _treatment(suffix: str, kind: str | None, treatment: tuple[str, ...]) -> str | None:
    misnamed = ("misnamed",) if suffix not in _SUFFIXES.get(str(kind), ()) else ()
    return " ".join((*treatment, *misnamed)) or None
