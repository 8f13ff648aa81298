"""Stage `images`: encodes item photos into feature vectors.

Reads the dump's photos and the catalogue. Writes `images/embeddings`, one row per catalogue item (zeros unless a photo
could be used), and `images/rejects`, with the reason for each rejected photo.
Trade-off: features are also cached by photo digest in `work/features/`. A killed run resumes, a larger catalogue
encodes only its new photos, and several processes (torchrun) share the work without communicating.
"""

import logging
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from features.encoders.clip import cores, describe, feature_width, load_encoder
from features.encoders.config import ClipParams
from features.encoders.embedding_cache import Shards
from features.encoders.encode_loop import CacheWriter, cache_key, encode_photos
from features.encoders.precomputed import load_features
from features.encoders.rank_partition import share, wait_until_none
from features.errors import TableError
from features.runtime import stage
from features.runtime.datasets import Dataset
from features.runtime.params import build
from features.store.embeddings import centred, vector_table
from features.vision.image_decoding import PhotoLimits
from features.vision.image_loader import Feeder, Job, Recipe
from features.vision.photo_index import Features, PhotoIndex, merge
from features.vision.photo_store import PhotoStore

if TYPE_CHECKING:
    import pyarrow as pa

    from features.store.tables import Provenance

log = logging.getLogger("vip5")


@dataclass(frozen=True, kw_only=True)
class Params:
    """Parameters of the stage `images`. Batch size, workers, shards and processes do not affect the table."""

    batch_size: int = 64
    """Photos per encoder batch."""
    workers: int = 0
    """Threads or processes that read and decode photos; 0 uses one per core."""
    decoders: Literal["auto", "threads", "processes"] = "auto"
    """Kind of workers: auto uses processes with a GPU, and threads on a CPU, where they alternate with the encoder."""
    photos_per_shard: int = 512
    """Photos per cache shard; a killed run loses at most one shard."""
    max_wait_seconds: float = 3600.0
    """Under torchrun: seconds that the first process waits without a new shard before it fails."""
    photos_per_item: int = 1
    """Maximum number of photos per item (B1.jpg, B1.1.jpg, ...); the item's feature is the mean of theirs."""
    jpeg_draft_factor: float | None = 2.0
    """JPEGs are decoded at 1/2, 1/4 or 1/8 scale if both sides remain at least this multiple of the encoder's input;
    null decodes at full size."""
    center: bool = False
    """Subtract the catalogue's mean feature before scaling to length 1, for encoders whose features are nearly
    collinear. The mean is stored in the manifest, so that it can be applied to later items."""
    max_items_per_photo: int = 50
    """A photo (by digest) shared by more items is rejected as a placeholder; 0 disables the check."""
    placeholders: tuple[str, ...] = ()
    """SHA-256 digests (64 hexadecimal digits) of the shop's "no image" pictures."""
    limits: PhotoLimits = field(default_factory=PhotoLimits)
    """Limits on file size, dimensions and content of a photo."""

    def __post_init__(self) -> None:
        if min(self.batch_size, self.photos_per_shard, self.photos_per_item) < 1 or self.max_wait_seconds <= 0:
            raise ValueError("batch_size, photos_per_shard, photos_per_item >= 1 and max_wait_seconds > 0 must hold")
        if (
            self.workers < 0
            or self.max_items_per_photo < 0
            or (self.jpeg_draft_factor is not None and self.jpeg_draft_factor < 1)
        ):
            raise ValueError("workers >= 0, max_items_per_photo >= 0 and jpeg_draft_factor >= 1 (or null) must hold")
        for digest in self.placeholders:
            if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
                raise ValueError(f"placeholders: {digest!r} is not a SHA-256 in lower-case hexadecimal")


SECTIONS = ("clip", "datasets")
READS = ("data/raw/${dataset}", "data/${dataset}/sequences/items")
WRITES = ("data/${dataset}/images/embeddings", "data/${dataset}/images/rejects")


def run(params: Params, context: stage.Context) -> int:
    """Encode the photo of every catalogue item and record the reason for each rejected photo."""
    from features.schema import CATALOGUE
    from features.store.tables import Provenance, read_table

    clip = build(ClipParams, context.shared["clip"], where="clip")
    dataset = build(Dataset, context.shared["datasets"], where=f"datasets.{context.dataset}")
    inputs = {"sequences/items": context.table("sequences/items")}
    items = read_table(inputs["sequences/items"], CATALOGUE, columns=["item_id", "item_key"])
    keys: list[str] = items["item_key"].to_pylist()
    if dataset.vectors is not None:
        inputs["vectors"] = context.raw / dataset.vectors
        features, about = load_features(inputs["vectors"], keys, normalise=clip.normalise)
    else:
        if dataset.photos is not None:
            inputs["photos"] = context.raw / dataset.photos
        encoded = _encoded(keys, inputs.get("photos"), context, params, clip)
        if isinstance(encoded, int):
            return encoded
        features, about = encoded
    center: list[float] | None = None
    if params.center:
        features.vectors, center = centred(features.vectors, np.array(features.statuses) == "ok")
    notes = _notes(features) | {"center": center} | about
    digested = {"images": asdict(params), "clip": asdict(clip)}
    provenance = Provenance(stage="images", params=digested, inputs=inputs, notes=notes)
    return _write(items["item_id"], features, context, provenance)


def _encoded(
    keys: Sequence[str], folder: Path | None, context: stage.Context, params: Params, clip: ClipParams
) -> tuple[Features, dict[str, Any]] | int:
    """Features of the photos in `folder` and notes for the manifest.

    Processes of rank > 0 return the number of photos that they encoded instead.
    """
    store = None if folder is None else PhotoStore(folder)
    index = PhotoIndex(
        keys, store, most=params.photos_per_item, max_bytes=params.limits.max_megabytes * 1e6,
        placeholders=params.placeholders, workers=params.workers or cores(),
    )  # fmt: skip
    key = cache_key(clip, limits=asdict(params.limits), draft=params.jpeg_draft_factor)
    shards = Shards(context.features(key), feature_width(clip))
    encoded = encode_missing(index, shards, clip, params)
    if not share().merges:
        return encoded
    wait_until_none(
        lambda: len(index.jobs.keys() - shards.known()), world=share().world, patience_seconds=params.max_wait_seconds
    )
    features = merge(
        index.photos_by_item,
        shards.find(index.jobs),
        max_items_per_photo=params.max_items_per_photo,
        normalise=clip.normalise,
    )
    if store and "ok" not in features.statuses:
        log.warning(
            "images: none of the %d photos in %s belongs to the catalogue or can be read", len(store), store.folder
        )
    unused = len(store) - sum(map(len, index.photos_by_item)) if store else 0
    return features, {"encoder": describe(clip), "photos_of_no_item": unused}


def encode_missing(index: PhotoIndex, shards: Shards, clip: ClipParams, params: Params) -> int:
    """Encodes this process's share of the photos in `index` that are not cached yet; returns their number.

    The encoder is loaded only if there is a photo to encode.
    """
    known, mine = shards.known(), share()
    with closing(index.wanted(lambda digest: mine.has(digest) and digest not in known)) as jobs:
        first = next(jobs, None)
        number = _encode(chain([first], jobs), index, shards, clip, params) if first else 0
    there = len(index.jobs.keys() & known)
    if there:
        log.info("images: %d of %d distinct photos were cached", there, len(index.jobs))
    return number


def _encode(jobs: Iterable[Job], index: PhotoIndex, shards: Shards, clip: ClipParams, params: Params) -> int:
    encoder = load_encoder(clip)
    recipe = Recipe(
        fit=encoder.fit,
        limits=params.limits,
        shrink_to=None if params.jpeg_draft_factor is None else encoder.fit.draft_side(params.jpeg_draft_factor),
    )
    with feeder_of(recipe, params, encoder.device) as feeder:
        writer = CacheWriter(shards=shards, per_shard=params.photos_per_shard)
        speed = encode_photos(jobs, encoder, writer, feeder, lambda: index.at_most)
        log.info("images: %s (%d decoding %s)", speed, feeder.workers, "processes" if feeder.shared else "threads")
    return speed.photos


def feeder_of(recipe: Recipe, params: Params, device: str) -> Feeder:
    """The photo loader that `params` configure for an encoder on `device`."""
    kind = params.decoders
    if kind == "auto":
        kind = "processes" if device.startswith("cuda") else "threads"
    workers = params.workers or cores()
    return Feeder(recipe, batch_size=params.batch_size, workers=workers, kind=kind, device=device)


def _counts(features: Features) -> dict[str, int]:
    counts = {status: features.statuses.count(status) for status in ("ok", "missing", "rejected")}
    explained = {reject.row for reject in features.rejects}
    unexplained = [row for row, status in enumerate(features.statuses) if status == "rejected" and row not in explained]
    used = int(sum(number > 0 for number in features.num_photos))
    if sum(counts.values()) != len(features.vectors) or unexplained or used != counts["ok"]:
        raise TableError(
            f"{counts}, {used} items with photos in use and {len(unexplained)} rejected ones without a reason for "
            f"{len(features.vectors)} items", "ok + missing + rejected = items, a reason for each rejected one",
            "report this: features/vision/photo_index.py has lost a photo",
        )  # fmt: skip
    return {"items": len(features.vectors)} | counts


def _notes(features: Features) -> dict[str, Any]:
    treatments = Counter(name for treatment in features.treatments if treatment for name in treatment.split())
    return {
        "counts": _counts(features),
        "photos_in_use": sum(features.num_photos),
        "reasons": dict(sorted(Counter(reject.rejection.reason for reject in features.rejects).items())),
        "treatments": dict(sorted(treatments.items())),
    }


def _write(item_ids: "pa.ChunkedArray", features: Features, context: stage.Context, provenance: "Provenance") -> int:
    from features.schema import PHOTO_REJECTS, embeddings
    from features.store.tables import from_rows, write_table

    numbers = item_ids.to_pylist()
    rejects = [
        {"item_id": numbers[reject.row], "source": reject.source, "reason": reject.rejection.reason,
         "detail": reject.rejection.detail}
        for reject in features.rejects
    ]  # fmt: skip
    write_table(context.table("images/rejects"), PHOTO_REJECTS, from_rows(PHOTO_REJECTS, rejects), provenance)
    table = embeddings(features.vectors.shape[1])
    columns: dict[str, Sequence[str | None]] = {
        "status": features.statuses, "sha256": features.digests, "treatment": features.treatments,
    }  # fmt: skip
    return write_table(
        context.table("images/embeddings"), table, vector_table(table, item_ids, features.vectors, columns), provenance
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage from the command line."""
    return stage.main("images", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
