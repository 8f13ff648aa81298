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

from features.encoders.config import ClipParams, Tower
from features.encoders.embedding_cache import Shards
from features.encoders.encode_loop import CacheWriter, encode_photos
from features.encoders.encoder import ImageEncoder, cores
from features.encoders.joined_features import joined
from features.encoders.loading import describe_images, image_cache_key, image_width, load_image_encoder
from features.encoders.precomputed import load_features
from features.encoders.rank_partition import share, wait_until_none
from features.errors import TableError
from features.runtime import stage
from features.runtime.datasets import Dataset
from features.runtime.matching import MIN_MATCH_SHARE, Matching, match_names
from features.runtime.params import build
from features.store.embeddings import centred, vector_table
from features.vision.dataset_photos import check_photos, keys_of, known_items, open_photos, photo_matching
from features.vision.image_decoding import PhotoLimits
from features.vision.image_loader import Feeder, Job, Recipe
from features.vision.photo_index import Features, PhotoIndex, merge

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
    min_match_share: float = MIN_MATCH_SHARE
    """Stop if both the share of the photos (vectors) that are used and the share of the items that have one are below
    it: names or files of another dataset. 0 disables the check."""
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
        if not 0 <= self.min_match_share <= 1:
            raise ValueError(f"min_match_share = {self.min_match_share} must lie between 0 and 1")
        for digest in self.placeholders:
            if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
                raise ValueError(f"placeholders: {digest!r} is not a SHA-256 in lower-case hexadecimal")


VECTORS_ACTION = "name the vectors by item key, or correct datasets.NAME.vectors and vector_keys in params.yaml"
SECTIONS = ("clip", "datasets")
READS = ("data/raw/${dataset}", "data/${dataset}/records/items", "data/${dataset}/sequences/items")
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
    encoded: tuple[Features, dict[str, Any]] | int
    if dataset.vectors is not None:
        encoded = _ready(keys, context, params, clip, dataset=dataset, inputs=inputs)
    else:
        encoded = _encoded(keys, context, params, clip, dataset=dataset, inputs=inputs)
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


def _ready(
    keys: Sequence[str], context: stage.Context, params: Params, clip: ClipParams, *, dataset: Dataset,
    inputs: dict[str, Path],
) -> tuple[Features, dict[str, Any]]:  # fmt: skip
    """The dump's precomputed features and notes for the manifest; adds the files to `inputs`."""
    names = {"vectors": dataset.vectors, "vector_keys": dataset.vector_keys}
    inputs |= {name: context.raw / file for name, file in names.items() if file is not None}
    features, about, loaded = load_features(context.raw, dataset, keys, normalise=clip.normalise)
    known = keys_of(_known(context, inputs), keys, loaded.names)
    used = features.statuses.count("ok")
    found = match_names("vectors", loaded.names, keys, used=used, known=known, blank=len(loaded.blank))
    found.check(params.min_match_share, parameter="images.min_match_share", action=VECTORS_ACTION)
    return features, about | _matched(found)


def _known(context: stage.Context, inputs: dict[str, Path]) -> "pa.Table | None":
    """The dump's own items, added to `inputs`; None if it has no metadata."""
    known = known_items(context.table("records/items"))
    if known is not None:
        inputs["records/items"] = context.table("records/items")
    return known


def _matched(found: Matching) -> dict[str, Any]:
    return {"photos_of_no_item": found.unmatched, "matching": found.notes()}


def _encoded(
    keys: Sequence[str], context: stage.Context, params: Params, clip: ClipParams, *, dataset: Dataset,
    inputs: dict[str, Path],
) -> tuple[Features, dict[str, Any]] | int:  # fmt: skip
    """Features of the dump's photos and notes for the manifest; adds the files to `inputs`.

    Processes of rank > 0 return the number of photos that they encoded instead.
    """
    names = {"photos": dataset.photos, "photo_keys": dataset.photo_keys}
    inputs |= {name: context.raw / file for name, file in names.items() if file is not None}
    known = None if dataset.photos is None else _known(context, inputs)
    store = open_photos(context.raw, dataset, keys, known)
    index = PhotoIndex(
        keys, store, most=params.photos_per_item, max_bytes=params.limits.max_megabytes * 1e6,
        placeholders=params.placeholders, workers=params.workers or cores(),
    )  # fmt: skip
    found = None if store is None else photo_matching(store, keys, index.at_most, known)
    if store is not None and found is not None:
        check_photos(found, store.folder, params.min_match_share)
    caches = {tower: _cache(tower, context, clip, params) for tower in clip.image_towers}
    encoded = sum(encode_missing(index, shards, tower, clip, params) for tower, shards in caches.items())
    if not share().merges:
        return encoded
    wait_until_none(
        lambda: sum(len(index.jobs.keys() - shards.known()) for shards in caches.values()),
        world=share().world, patience_seconds=params.max_wait_seconds,
    )  # fmt: skip
    features = merge(
        index.photos_by_item,
        joined([shards.find(index.jobs) for shards in caches.values()], normalise=clip.normalise),
        max_items_per_photo=params.max_items_per_photo,
        normalise=clip.normalise,
    )
    if store and "ok" not in features.statuses:
        log.warning("images: no photo in %s could be decoded; images/rejects has the reasons", store.folder)
    return features, {"encoder": describe_images(clip)} | (
        {"photos_of_no_item": 0} if found is None else _matched(found)
    )


def _cache(tower: Tower, context: stage.Context, clip: ClipParams, params: Params) -> Shards:
    key = image_cache_key(tower, clip, limits=asdict(params.limits), draft=params.jpeg_draft_factor)
    return Shards(context.features(key), image_width(tower, clip))


def encode_missing(index: PhotoIndex, shards: Shards, tower: Tower, clip: ClipParams, params: Params) -> int:
    """Encodes this process's share of the photos in `index` that are not cached yet; returns their number.

    The encoder is loaded only if there is a photo to encode.
    """
    known, mine = shards.known(), share()
    with closing(index.wanted(lambda digest: mine.has(digest) and digest not in known)) as jobs:
        first = next(jobs, None)
        number = 0
        if first:
            number = _encode(chain([first], jobs), index, shards, load_image_encoder(clip, tower), params)
    there = len(index.jobs.keys() & known)
    if there:
        log.info("images: %d of %d distinct photos were cached", there, len(index.jobs))
    return number


def _encode(jobs: Iterable[Job], index: PhotoIndex, shards: Shards, encoder: ImageEncoder, params: Params) -> int:
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
