"""Encodes photos and titles that are not cached yet, in full batches, and writes them to the cache shard by shard.

Reads photos or titles by digest. Writes finished shards and returns throughput.
Trade-off: on a GPU, the result of a batch is fetched after the next batch is queued, so the GPU does not wait for
Python; a killed process loses one more batch.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32

from features.encoders.embedding_cache import Shards
from features.encoders.encoder import ImageEncoder, TextEncoder
from features.vision.image_loader import Feeder, Job, Outcome

log = logging.getLogger("vip5")


@dataclass(kw_only=True)
class CacheWriter:
    """Collects encoded rows and writes a shard to the cache for every `per_shard` of them."""

    shards: Shards
    per_shard: int
    outcomes: list[Outcome] = field(default_factory=list)
    vectors: list[Float32[np.ndarray, "_ D"]] = field(default_factory=list)

    def add(self, outcomes: Sequence[Outcome], vectors: Float32[np.ndarray, "N D"]) -> None:
        """Adds a batch, without its padding rows."""
        self.outcomes += outcomes
        self.vectors.append(vectors[: len(outcomes)])
        if len(self.outcomes) >= self.per_shard:
            self.close()

    def close(self) -> None:
        """Writes the remaining rows."""
        if self.outcomes:
            self.shards.add(self.outcomes, np.concatenate(self.vectors))
        self.outcomes, self.vectors = [], []


@dataclass(frozen=True, kw_only=True)
class Speed:
    """Throughput of photo encoding; `waited_seconds` is the time that the encoder waited for pixels."""

    photos: int
    seconds: float
    waited_seconds: float

    def __str__(self) -> str:
        share = self.waited_seconds / max(self.seconds, 1e-9)
        return (
            f"{self.photos:,} photos in {self.seconds:.1f} s, {self.photos / max(self.seconds, 1e-9):.1f} per second; "
            f"the encoder waited for decoding {share:.0%} of the time"
        )


def encode_photos(
    jobs: Iterable[Job], encoder: ImageEncoder, writer: CacheWriter, feeder: Feeder, at_most: Callable[[], int]
) -> Speed:
    """Encodes the photos of `jobs` and writes them to the cache, with a progress bar.

    Args:
        jobs: Photos to encode; consumed lazily.
        encoder: Image encoder.
        writer: Receives the features.
        feeder: Decodes photos into batches.
        at_most: Returns the current upper bound on the number of jobs.
    """
    from tqdm import tqdm

    began, waited, photos = time.monotonic(), feeder.waited_seconds, 0
    pending: tuple[list[Outcome], Callable[[], Float32[np.ndarray, "N D"]]] | None = None
    with (
        tqdm(total=at_most(), desc="images", unit=" images", mininterval=1.0, disable=None) as bar,
        closing(feeder.batches(jobs)) as batches,
    ):
        for batch in batches:
            result = encoder.start(batch.pixels)
            if pending:
                writer.add(pending[0], pending[1]())
            pending = (batch.outcomes, result)
            photos += len(batch.outcomes)
            bar.total = at_most()
            bar.update(len(batch.outcomes))
    if pending:
        writer.add(pending[0], pending[1]())
    writer.close()
    seconds = time.monotonic() - began
    return Speed(photos=photos, seconds=seconds, waited_seconds=feeder.waited_seconds - waited)


def encode_titles(titles: Mapping[str, str], encoder: TextEncoder, writer: CacheWriter, batch_size: int) -> None:
    """Encodes titles, given by digest, and writes them to the cache; the last batch is padded, as for photos."""
    from tqdm import tqdm

    digests = list(titles)
    with tqdm(total=len(digests), desc="texts", unit=" titles", mininterval=1.0, disable=None) as bar:
        for start in range(0, len(digests), batch_size):
            chosen = digests[start : start + batch_size]
            filled = [*(titles[one] for one in chosen), *([""] * (batch_size - len(chosen)))]
            writer.add([Outcome(digest=one) for one in chosen], encoder.encode_texts(filled))
            bar.update(len(chosen))
    writer.close()
