"""Photos to feature vectors: the stage `images`.

Enters: the dump's photos and the catalogue. Leaves: `images/embeddings` with one row for every item of the catalogue
(zeros unless the photo could be used), and `images/rejects` with the reason of every photo that could not.
Trade-off: photos are decoded by threads while the encoder works on the batch before; rows are made in item_id order
with a fixed batch size, so that the table does not depend on the number of threads.
"""

import hashlib
import logging
import sys
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from features import stage
from features.clip import ClipParams, Encoder, describe, feature_width, load_encoder
from features.datasets import Dataset
from features.decoding import PhotoLimits, Rejection, decode
from features.errors import TableError
from features.params import build
from features.photos import PhotoStore
from features.vectors import centred, vector_table

if TYPE_CHECKING:
    import pyarrow as pa
    import torch

    from features.tables import Provenance

log = logging.getLogger("vip5")


@dataclass(frozen=True, kw_only=True)
class Params:
    """Parameters of the stage `images`."""

    batch_size: int = 64
    """Photos encoded at once."""
    workers: int = 2
    """Threads that read and decode photos; they do not change the table."""
    center: bool = False
    """Subtract the mean feature of the catalogue before scaling to length 1: for encoders whose features are
    nearly collinear. The mean is kept in the manifest, so that a later item can be treated alike."""
    max_sharing: int = 50
    """A photo (by its digest) that more items share is a placeholder; 0 means any number may."""
    limits: PhotoLimits = field(default_factory=PhotoLimits)
    """What a photo may be."""

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.workers < 1 or self.max_sharing < 0:
            raise ValueError("batch_size >= 1, workers >= 1 and max_sharing >= 0 must hold")


SECTIONS = ("clip", "datasets")
READS = ("data/raw/${dataset}", "data/${dataset}/sequences/items")
WRITES = ("data/${dataset}/images/embeddings", "data/${dataset}/images/rejects")


@dataclass(kw_only=True)
class Features:
    """One entry an item, all in the same order: `vectors` (I, D) float32, zeros unless the status is ok."""

    vectors: np.ndarray
    statuses: list[str]
    digests: list[str | None]
    rejections: list[tuple[str, Rejection] | None]

    def reject(self, row: int, source: str, rejection: Rejection) -> None:
        """Marks one item's photo as not used."""
        self.vectors[row] = 0
        self.statuses[row] = "rejected"
        self.rejections[row] = (source, rejection)


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    digest: str | None = None
    tensor: "torch.Tensor | None" = None
    refused: tuple[str, Rejection] | None = None


def run(params: Params, context: stage.Context) -> int:
    """Encode the photo of every item of the catalogue and say which photos could not be used."""
    from features.schema import CATALOGUE
    from features.tables import Provenance, read_table

    clip = build(ClipParams, context.shared["clip"], where="clip")
    dataset = build(Dataset, context.shared["datasets"], where=f"datasets.{context.dataset}")
    inputs = {"sequences/items": context.table("sequences/items")}
    items = read_table(inputs["sequences/items"], CATALOGUE, columns=["item_id", "item_key"])
    keys: list[str] = items["item_key"].to_pylist()
    if dataset.photos is None:
        features, description, unused = _no_photos(len(keys), feature_width(clip)), describe(clip), 0
    else:
        inputs["photos"] = context.raw / dataset.photos
        store = PhotoStore(inputs["photos"])
        encoder = load_encoder(clip)
        features, description = encode_photos(keys, store, encoder, params), encoder.description
        unused = len(set(store.keys()) - set(keys))
    _reject_shared(features, keys, params.max_sharing)
    center: list[float] | None = None
    if params.center:
        features.vectors, center = centred(features.vectors, np.array(features.statuses) == "ok")
    notes = {
        "encoder": description,
        "center": center,
        "counts": _counts(features),
        "photos_of_no_item": unused,
        "reasons": dict(sorted(Counter(told[1].reason for told in features.rejections if told).items())),
    }
    digested = {"images": asdict(params), "clip": asdict(clip)}
    provenance = Provenance(stage="images", params=digested, inputs=inputs, notes=notes)
    return _write(items["item_id"], features, context, provenance)


def encode_photos(keys: Sequence[str], store: PhotoStore, encoder: Encoder, params: Params) -> Features:
    """The feature of each item's photo.

    Args:
        keys: item keys, in the order of the result's rows.
        store: where the photos are.
        encoder: what sees them.
        params: batch size, threads and limits.

    Example:
        Keys ["B1", "B2", "B3"] with photos B3.jpg (good) and B1.jpg (0 bytes) give statuses
        ["rejected", "missing", "ok"]; the first two vectors are zeros.
    """
    from tqdm import tqdm

    features = _no_photos(len(keys), encoder.width)
    row = 0
    with tqdm(total=len(keys), desc="images", unit=" images", mininterval=1.0, disable=None) as bar:
        for batch in _prepared_batches(keys, store, encoder, params):
            for offset, prepared in enumerate(batch):
                features.digests[row + offset] = prepared.digest
                if prepared.refused:
                    features.reject(row + offset, *prepared.refused)
            good = [(row + i, prepared.tensor) for i, prepared in enumerate(batch) if prepared.tensor is not None]
            features.vectors[[place for place, _ in good]] = encoder.encode_prepared([tensor for _, tensor in good])
            for place, _ in good:
                features.statuses[place] = "ok"
            row += len(batch)
            bar.update(len(batch))
    if store and "ok" not in features.statuses:
        log.warning(
            "images: none of the %d photos in %s belongs to the catalogue or can be read", len(store), store.folder
        )
    return features


def _prepared_batches(
    keys: Sequence[str], store: PhotoStore, encoder: Encoder, params: Params
) -> Iterator[list[_Prepared]]:
    """Batches in order, with the next one being decoded by threads while the caller encodes the last."""
    prepare = partial(_prepare, store=store, encoder=encoder, limits=params.limits)
    starts = iter(range(0, len(keys), params.batch_size))
    with ThreadPoolExecutor(params.workers, thread_name_prefix="decode") as pool:

        def submit(start: int) -> list[Future[_Prepared]]:
            return [pool.submit(prepare, key) for key in keys[start : start + params.batch_size]]

        waiting = deque(submit(start) for start in islice(starts, 2))
        while waiting:
            batch = [future.result() for future in waiting.popleft()]
            following = next(starts, None)
            if following is not None:
                waiting.append(submit(following))
            yield batch


def _prepare(key: str, *, store: PhotoStore, encoder: Encoder, limits: PhotoLimits) -> _Prepared:
    photo = store.find(key)
    if photo is None:
        return _Prepared()
    if photo.refusal:
        return _Prepared(refused=(photo.source, Rejection(reason=photo.refusal, detail="the file is not read")))
    if photo.num_bytes > limits.max_megabytes * 1e6:
        too_large = Rejection(reason="too_large", detail=f"{photo.num_bytes} bytes; the file is not read")
        return _Prepared(refused=(photo.source, too_large))
    data = store.bytes(key) or b""
    digest = hashlib.sha256(data).hexdigest()
    image = decode(data, limits)
    if isinstance(image, Rejection):
        return _Prepared(digest=digest, refused=(photo.source, image))
    return _Prepared(digest=digest, tensor=encoder.prepare(image))


def _no_photos(num_items: int, width: int) -> Features:
    return Features(
        vectors=np.zeros((num_items, width), np.float32),
        statuses=["missing"] * num_items,
        digests=[None] * num_items,
        rejections=[None] * num_items,
    )


def _reject_shared(features: Features, keys: Sequence[str], max_sharing: int) -> None:
    """Rejects photos that stand for more than `max_sharing` items: the shop's "no photo" picture."""
    uses = Counter(digest for digest, status in zip(features.digests, features.statuses, strict=True) if status == "ok")
    for row, digest in enumerate(features.digests):
        if max_sharing and features.statuses[row] == "ok" and uses[digest] > max_sharing:
            told = Rejection(reason="placeholder", detail=f"the same photo as {uses[digest] - 1} other items")
            features.reject(row, keys[row], told)


def _counts(features: Features) -> dict[str, int]:
    counts = {status: features.statuses.count(status) for status in ("ok", "missing", "rejected")}
    rejects = sum(rejection is not None for rejection in features.rejections)
    if sum(counts.values()) != len(features.vectors) or rejects != counts["rejected"]:
        raise TableError(
            f"{counts} and {rejects} reasons for {len(features.vectors)} items", "ok + missing + rejected = items",
            "report this: features/images.py has lost a photo",
        )  # fmt: skip
    return {"items": len(features.vectors)} | counts


def _write(item_ids: "pa.ChunkedArray", features: Features, context: stage.Context, provenance: "Provenance") -> int:
    from features.schema import PHOTO_REJECTS, embeddings
    from features.tables import from_rows, write_table

    rejects = [
        {"item_id": item_id, "source": told[0], "reason": told[1].reason, "detail": told[1].detail}
        for item_id, told in zip(item_ids.to_pylist(), features.rejections, strict=True)
        if told
    ]
    write_table(context.table("images/rejects"), PHOTO_REJECTS, from_rows(PHOTO_REJECTS, rejects), provenance)
    table = embeddings(features.vectors.shape[1])
    columns: dict[str, Sequence[str | None]] = {"status": features.statuses, "sha256": features.digests}
    rows = vector_table(table, item_ids, features.vectors, columns)
    return write_table(context.table("images/embeddings"), table, rows, provenance)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage from the command line."""
    return stage.main("images", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
