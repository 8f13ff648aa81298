"""Photos to feature vectors: the stage `images`.

Enters: the dump's photos and the catalogue. Leaves: `images/embeddings` with one row for every item of the catalogue
(zeros unless a photo could be used), and `images/rejects` with the reason of every photo that could not.
Trade-off: features are kept in shards by the photo's digest (`work/features/`) besides the table, so that a killed run
goes on, a grown catalogue costs what is new, and several processes (torchrun) share the work without talking.
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
from features.encoders.precomputed import given_features
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
    """Parameters of the stage `images`. Batches, workers, shards and processes do not change the table."""

    batch_size: int = 64
    """Photos encoded at once."""
    workers: int = 0
    """Threads or processes that read and decode photos; 0 for one a core."""
    decoders: Literal["auto", "threads", "processes"] = "auto"
    """What they are: auto is processes beside a GPU and threads on a CPU, where they take turns with the encoder."""
    photos_per_shard: int = 512
    """Photos filed at once: what a kill undoes at most."""
    max_wait_seconds: float = 3600.0
    """Under torchrun: how long the first process waits without any other's shard before it gives up."""
    photos_per_item: int = 1
    """Of an item's photos (B1.jpg, B1.1.jpg, ...) the first so many; the mean of their features is the item's."""
    jpeg_draft_factor: float | None = 2.0
    """A JPEG is decoded at 1/2, 1/4 or 1/8 of its size as long as both sides keep so many times the encoder's input;
    null: always at full size."""
    center: bool = False
    """Subtract the mean feature of the catalogue before scaling to length 1: for encoders whose features are
    nearly collinear. The mean is kept in the manifest, so that a later item can be treated alike."""
    max_items_per_photo: int = 50
    """A photo (by its digest) that more items share is a placeholder; 0 means any number may."""
    placeholders: tuple[str, ...] = ()
    """SHA-256 digests (64 hexadecimal digits) of the shop's "no image" pictures."""
    limits: PhotoLimits = field(default_factory=PhotoLimits)
    """What a photo may be."""

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
    """Encode the photo of every item of the catalogue and say which photos could not be used."""
    from features.schema import CATALOGUE
    from features.store.tables import Provenance, read_table

    clip = build(ClipParams, context.shared["clip"], where="clip")
    dataset = build(Dataset, context.shared["datasets"], where=f"datasets.{context.dataset}")
    inputs = {"sequences/items": context.table("sequences/items")}
    items = read_table(inputs["sequences/items"], CATALOGUE, columns=["item_id", "item_key"])
    keys: list[str] = items["item_key"].to_pylist()
    if dataset.vectors is not None:
        inputs["vectors"] = context.raw / dataset.vectors
        features, about = given_features(inputs["vectors"], keys, normalise=clip.normalise)
    else:
        if dataset.photos is not None:
            inputs["photos"] = context.raw / dataset.photos
        found = _encoded(keys, inputs.get("photos"), context, params, clip)
        if isinstance(found, int):
            return found
        features, about = found
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
    """Features of the photos in `folder` and what the manifest says of them.

    A process that only helps another with the encoding gets the number of photos that it encoded instead.
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
    """Reads the photos of `index`, encodes and files those of this process that no finished shard holds meanwhile.

    Returns how many they are. Nothing to do loads nothing.
    """
    known, mine = shards.known(), share()
    with closing(index.wanted(lambda digest: mine.has(digest) and digest not in known)) as jobs:
        first = next(jobs, None)
        number = _encode(chain([first], jobs), index, shards, clip, params) if first else 0
    there = len(index.jobs.keys() & known)
    if there:
        log.info("images: %d of %d different photos were there already", there, len(index.jobs))
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
    """The workers that `params` ask for beside an encoder on `device`."""
    kind = params.decoders
    if kind == "auto":
        kind = "processes" if device.startswith("cuda") else "threads"
    workers = params.workers or cores()
    return Feeder(recipe, batch_size=params.batch_size, workers=workers, kind=kind, device=device)


def _counts(features: Features) -> dict[str, int]:
    counts = {status: features.statuses.count(status) for status in ("ok", "missing", "rejected")}
    told = {reject.row for reject in features.rejects}
    silent = [row for row, status in enumerate(features.statuses) if status == "rejected" and row not in told]
    used = int(sum(number > 0 for number in features.num_photos))
    if sum(counts.values()) != len(features.vectors) or silent or used != counts["ok"]:
        raise TableError(
            f"{counts}, {used} items with photos in use and {len(silent)} rejected ones without a reason for "
            f"{len(features.vectors)} items", "ok + missing + rejected = items, a reason for each rejected one",
            "report this: features/vision/photo_index.py has lost a photo",
        )  # fmt: skip
    return {"items": len(features.vectors)} | counts


def _notes(features: Features) -> dict[str, Any]:
    treatments = Counter(word for told in features.treatments if told for word in told.split())
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
        {"item_id": numbers[told.row], "source": told.source, "reason": told.rejection.reason,
         "detail": told.rejection.detail}
        for told in features.rejects
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
