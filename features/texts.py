"""Stage `texts`: encodes item titles into feature vectors.

Reads the catalogue's titles. Writes the table `texts`, one row per item, zeros where there is no title. Without a model
that encodes texts all rows are zeros, of width 1.
Trade-off: by default titles use the text half of the model that encodes photos, so a trained CLIP puts both into one
space. They also use the same cache by digest, so identical titles are encoded once and a larger catalogue encodes only
its new titles.
"""

import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256

import numpy as np

from features.encoders.config import ClipParams
from features.encoders.embedding_cache import Shards
from features.encoders.encode_loop import CacheWriter, encode_titles
from features.encoders.loading import describe_texts, load_text_encoder, text_cache_key, text_tower, text_width
from features.encoders.rank_partition import share, wait_until_none
from features.prompts.rendering import plain
from features.runtime import stage
from features.runtime.params import build

log = logging.getLogger("vip5")


@dataclass(frozen=True, kw_only=True)
class Params:
    """Parameters of the stage `texts`."""

    batch_size: int = 256
    """Titles per encoder batch."""
    titles_per_shard: int = 4096
    """Titles per cache shard; a killed run loses at most one shard."""
    max_wait_seconds: float = 3600.0
    """Under torchrun: seconds that the first process waits without a new shard before it fails."""
    center: bool = False
    """Subtract the catalogue's mean feature before scaling to length 1, for encoders whose features are nearly
    collinear. The mean is stored in the manifest."""

    def __post_init__(self) -> None:
        if min(self.batch_size, self.titles_per_shard) < 1 or self.max_wait_seconds <= 0:
            raise ValueError("batch_size, titles_per_shard >= 1 and max_wait_seconds > 0 must hold")


SECTIONS = ("clip",)
READS = ("data/${dataset}/sequences/items",)
WRITES = ("data/${dataset}/texts",)


def run(params: Params, context: stage.Context) -> int:
    """Encode the title of every catalogue item."""
    from features.schema import CATALOGUE, text_embeddings
    from features.store.embeddings import centred, vector_table
    from features.store.tables import Provenance, read_table, write_table

    clip = build(ClipParams, context.shared["clip"], where="clip")
    items = read_table(context.table("sequences/items"), CATALOGUE, columns=["item_id", "title"])
    titles = [plain(title) if title else None for title in items["title"].to_pylist()]
    digests = [digest_of(title) if title and has_words(title) else None for title in titles]
    if text_tower(clip) is None:
        log.info("texts: %s does not encode texts: no title features; clip.text_model names a text encoder", clip.model)
        digests = [None] * len(titles)
    unique = {digest: str(title) for digest, title in zip(digests, titles, strict=True) if digest}
    shards = Shards(context.features(text_cache_key(clip, what="titles")), text_width(clip))
    known = shards.known()
    mine = {digest: unique[digest] for digest in unique if digest not in known and share().has(digest)}
    if mine:
        writer = CacheWriter(shards=shards, per_shard=params.titles_per_shard)
        encode_titles(mine, load_text_encoder(clip), writer, params.batch_size)
    if not share().merges:
        return len(mine)
    wait_until_none(
        lambda: len(unique.keys() - shards.known()), world=share().world, patience_seconds=params.max_wait_seconds
    )
    cached = shards.find(unique)
    vectors = np.zeros((len(titles), shards.width), np.float32)
    for row, digest in enumerate(digests):
        if digest:
            vectors[row] = cached.vectors[cached.rows[digest]]
    present = np.array([digest is not None for digest in digests], dtype=bool)
    titled = sum(has_words(title) for title in titles)
    center: list[float] | None = None
    if params.center:
        vectors, center = centred(vectors, present)
    table = text_embeddings(shards.width)
    provenance = Provenance(
        stage="texts", params={"texts": asdict(params), "clip": asdict(clip)},
        inputs={"sequences/items": context.table("sequences/items")},
        notes={
            "encoder": describe_texts(clip), "center": center,
            "counts": {"items": len(titles), "with_title": titled, "without": len(titles) - titled},
        },
    )  # fmt: skip
    return write_table(context.table("texts"), table, vector_table(table, items["item_id"], vectors), provenance)


def digest_of(title: str) -> str:
    """The cache digest of a title."""
    return sha256(title.encode()).hexdigest()


def has_words(title: str | None) -> bool:
    """Whether a title has anything to encode."""
    return bool(title and title.strip())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage from the command line."""
    return stage.main("texts", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
