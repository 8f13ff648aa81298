"""From the catalogue to the photos that must be encoded, and from their features back to one row an item.

Enters: item keys and the photo store; later what became of each photo. Leaves: `Seen` photos by item; `Features`.
Trade-off: every photo's bytes are read and hashed before it is decoded, a little ahead of the encoder and beside it, so
that what is finished, equal or listed as a placeholder is never decoded; a photo that must be is read twice.
"""

from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from hashlib import sha256
from itertools import islice

import numpy as np

from features.store.embeddings import ROWS_AT_ONCE, unit_rows
from features.vision.image_decoding import Rejection
from features.vision.image_loader import Found, Job, Outcome
from features.vision.photo_store import Photo, PhotoStore, read_photo

READ_AT_ONCE = 64  # photos a task: a message to a thread costs as much as reading a small photo
PARTS_AHEAD = 2  # tasks a thread, read before they are asked for
READERS = 8  # threads at most: opening a file and hashing it is a good part Python, which one thread at a time runs
_SUFFIXES = {
    "JPEG": ("jpg", "jpeg"), "PNG": ("png",), "GIF": ("gif",), "WEBP": ("webp",), "BMP": ("bmp",),
    "TIFF": ("tif", "tiff"),
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


class Look:
    """The photos of each item, at most `most`, with their digests, read while whoever takes the jobs is at work.

    `seen` and `jobs` (all different photos that can be used, by digest) grow as `wanted` is taken from and are whole
    when it ends; nothing is decoded here.

    Args:
        keys: item keys.
        store: None where the dataset has no photos.
        most: photos an item.
        max_bytes: larger files are not read.
        placeholders: SHA-256 digests of pictures that stand for "no photo".
        workers: threads that read; more than READERS would only wait for Python.
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
        self.seen: list[list[Seen]] = [[] for _ in keys]
        self.jobs: dict[str, Job] = {}
        self._readers = min(workers, READERS)
        self._glance = partial(_glance, max_bytes=max_bytes, placeholders=frozenset(placeholders))
        self._photos = (
            [(row, photo) for row, key in enumerate(keys) for photo in store.photos_of(key, most)] if store else []
        )
        self._to_come, self._taken = len(self._photos), 0

    @property
    def at_most(self) -> int:
        """So many photos will have been wanted in the end, or fewer: those not read yet may be equal or finished."""
        return self._taken + self._to_come

    def wanted(self, wants: Callable[[str], bool] = bool) -> Generator[Job]:
        """The photos to encode: each digest once, if `wants` says so, in the order of the catalogue; to be taken once.

        Raises:
            InputError: a photo is gone or became shorter since the store was made.
        """
        for row, one in self._glances():
            self.seen[row].append(one)
            self._to_come -= 1
            if one.digest is None or one.refused or one.digest in self.jobs:
                continue
            job = self.jobs[one.digest] = Job(digest=one.digest, photo=one.photo)
            if wants(one.digest):
                self._taken += 1
                yield job

    def _glances(self) -> Iterator[tuple[int, Seen]]:
        """All photos in order; so few are read ahead that reading keeps the pace of whoever takes them."""
        from tqdm import tqdm

        parts = (self._photos[start : start + READ_AT_ONCE] for start in range(0, len(self._photos), READ_AT_ONCE))
        with (
            ThreadPoolExecutor(self._readers, thread_name_prefix="read") as pool,
            tqdm(total=len(self._photos), desc="reading", unit=" images", mininterval=1.0, disable=None) as bar,
        ):
            tasks = (pool.submit(self._read, part) for part in parts)
            waiting = deque(islice(tasks, PARTS_AHEAD * self._readers))
            while waiting:
                glanced = waiting.popleft().result()
                waiting.extend(islice(tasks, 1))
                yield from glanced
                bar.update(len(glanced))

    def _read(self, part: Sequence[tuple[int, Photo]]) -> list[tuple[int, Seen]]:
        return [(row, self._glance(photo)) for row, photo in part]


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


def merge(seen: Sequence[Sequence[Seen]], found: Found, *, max_sharing: int, normalise: bool) -> Features:
    """The row of every item, joined by digest.

    Several photos of one item give the mean of the features of the usable ones (scaled to length 1 if `normalise`).

    Args:
        seen: the photos of each item.
        found: what became of each digest.
        max_sharing: a photo that more items have is a placeholder; 0: any number may have it.
        normalise: whether features have length 1.
    """
    photos = [(row, one) for row, ones in enumerate(seen) for one in ones]
    rows = np.array([row for row, _ in photos], np.int64)
    places = np.array([-1 if one.refused else found.rows[str(one.digest)] for _, one in photos], np.int64)
    good = np.array([outcome.rejection is None for outcome in found.outcomes], bool)
    fine = places >= 0
    fine[fine] = good[places[fine]]
    uses = _uses(rows[fine], places[fine], len(good))
    used = fine.copy()
    if max_sharing:
        used[fine] = uses[places[fine]] <= max_sharing
    rejects = [
        Reject(row=row, source=one.photo.source, rejection=_reason(one, places[i], found, uses))
        for i, (row, one) in ((i, photos[i]) for i in np.flatnonzero(~used))
    ]
    counts = np.bincount(rows[used], minlength=len(seen))
    features = Features(
        vectors=_vectors(rows[used], places[used], counts, found=found, normalise=normalise),
        statuses=np.where(counts > 0, "ok", np.where([bool(ones) for ones in seen], "rejected", "missing")).tolist(),
        digests=[None] * len(seen),
        treatments=[None] * len(seen),
        num_photos=counts.tolist(),
        rejects=rejects,
    )
    _tell_first(features, photos, places, used=used, found=found)
    return features


def _uses(rows: np.ndarray, places: np.ndarray, num_places: int) -> np.ndarray:
    """How many items have the photo of each place; twice in one item counts once."""
    pairs = np.unique(rows * max(num_places, 1) + places)
    return np.bincount(pairs % max(num_places, 1), minlength=num_places)


def _reason(one: Seen, place: int, found: Found, uses: np.ndarray) -> Rejection:
    told = one.refused or found.outcomes[place].rejection
    return told or Rejection(reason="placeholder", detail=f"the same photo as {uses[place] - 1} other items")


def _vectors(rows: np.ndarray, places: np.ndarray, counts: np.ndarray, *, found: Found, normalise: bool) -> np.ndarray:
    """One row an item from the photos in use (`rows` ascends): the photo's own, or the mean of several."""
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


def _tell_first(
    features: Features, photos: Sequence[tuple[int, Seen]], places: np.ndarray, *, used: np.ndarray, found: Found
) -> None:
    """Digest and treatment of each item's first photo in use, else the digest of its first photo that has one."""
    told: set[int] = set()
    for (row, one), place, in_use in zip(photos, places.tolist(), used.tolist(), strict=True):
        if in_use and row not in told:
            told.add(row)
            features.digests[row], features.treatments[row] = one.digest, _treatment_of(one, found.outcomes[place])
        elif features.digests[row] is None:
            features.digests[row] = one.digest


def _treatment_of(one: Seen, outcome: Outcome) -> str | None:
    return _treatment(one.photo.source.rpartition(".")[2].lower(), outcome.kind, outcome.treatment)


@lru_cache(maxsize=1024)
def _treatment(suffix: str, kind: str | None, treatment: tuple[str, ...]) -> str | None:
    misnamed = ("misnamed",) if suffix not in _SUFFIXES.get(str(kind), ()) else ()
    return " ".join((*treatment, *misnamed)) or None
