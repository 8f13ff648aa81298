"""The loop that fills the shards: what is not filed yet is encoded, in full batches, and filed shard by shard.

Enters: photos or titles by digest, the encoder, the shards. Leaves: finished shards, and how the time was spent.
Trade-off: beside a GPU the result of a batch is fetched only after the next one is queued, so that the GPU never waits
for Python; the price is one batch more that a kill undoes.
"""

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np

from features.encoders.clip import Encoder, describe
from features.encoders.config import ClipParams
from features.encoders.embedding_cache import Shards
from features.encoders.registry import resolve
from features.runtime.params import digest
from features.store.tables import file_digest
from features.vision.image_loader import Feeder, Job, Outcome

log = logging.getLogger("vip5")

_CODE = ("encoders/clip.py", "encoders/registry.py", "vision/image_decoding.py", "vision/preprocessing.py")
_LIBRARIES = ("torch", "torchvision", "open-clip-torch", "pillow")


def filed_under(clip: ClipParams, **more: object) -> str:
    """A digest of all that decides a feature: encoder, weights, precision, this code, the libraries and `more`."""
    here = Path(__file__).parents[1]
    return digest({
        "encoder": describe(clip) | {"quick_gelu": clip.quick_gelu, "config": resolve(clip)[1]},
        "code": {name: file_digest(here / name) for name in _CODE},
        "libraries": {name: version(name) for name in _LIBRARIES},
        **more,
    })  # fmt: skip


@dataclass(kw_only=True)
class Filing:
    """Collects what is encoded and files it `per_shard` at a time."""

    shards: Shards
    per_shard: int
    outcomes: list[Outcome] = field(default_factory=list)
    vectors: list[np.ndarray] = field(default_factory=list)

    def add(self, outcomes: Sequence[Outcome], vectors: np.ndarray) -> None:
        """Takes a batch; its idle rows are left out."""
        self.outcomes += outcomes
        self.vectors.append(vectors[: len(outcomes)])
        if len(self.outcomes) >= self.per_shard:
            self.close()

    def close(self) -> None:
        """Files the rest."""
        if self.outcomes:
            self.shards.add(self.outcomes, np.concatenate(self.vectors))
        self.outcomes, self.vectors = [], []


@dataclass(frozen=True, kw_only=True)
class Speed:
    """How fast photos became features: `waited_seconds` is the time in which the encoder had no pixels."""

    photos: int
    seconds: float
    waited_seconds: float

    def __str__(self) -> str:
        share = self.waited_seconds / max(self.seconds, 1e-9)
        return (
            f"{self.photos:,} photos in {self.seconds:.1f} s, {self.photos / max(self.seconds, 1e-9):.1f} a second; "
            f"the encoder waited for decoding {share:.0%} of the time"
        )


def encode_photos(
    jobs: Iterable[Job], encoder: Encoder, filing: Filing, feeder: Feeder, at_most: Callable[[], int]
) -> Speed:
    """Encodes and files the photos of `jobs`, with a bar that tells images a second and the time left.

    Args:
        jobs: may still be read while the first ones are encoded.
        encoder: of the photos.
        filing: takes what is encoded.
        feeder: decodes.
        at_most: how many jobs there will be, by what is known so far.
    """
    from tqdm import tqdm

    began, waited, photos = time.monotonic(), feeder.waited_seconds, 0
    pending: tuple[list[Outcome], Callable[[], np.ndarray]] | None = None
    with (
        tqdm(total=at_most(), desc="images", unit=" images", mininterval=1.0, disable=None) as bar,
        closing(feeder.batches(jobs)) as batches,
    ):
        for batch in batches:
            result = encoder.start(batch.pixels)
            if pending:
                filing.add(pending[0], pending[1]())
            pending = (batch.outcomes, result)
            photos += len(batch.outcomes)
            bar.total = at_most()
            bar.update(len(batch.outcomes))
    if pending:
        filing.add(pending[0], pending[1]())
    filing.close()
    seconds = time.monotonic() - began
    return Speed(photos=photos, seconds=seconds, waited_seconds=feeder.waited_seconds - waited)


def encode_titles(titles: Mapping[str, str], encoder: Encoder, filing: Filing, batch_size: int) -> None:
    """Encodes and files titles, given by digest; a short batch is filled up, as for photos."""
    from tqdm import tqdm

    digests = list(titles)
    with tqdm(total=len(digests), desc="texts", unit=" titles", mininterval=1.0, disable=None) as bar:
        for start in range(0, len(digests), batch_size):
            chosen = digests[start : start + batch_size]
            filled = [*(titles[one] for one in chosen), *([""] * (batch_size - len(chosen)))]
            filing.add([Outcome(digest=one) for one in chosen], encoder.encode_texts(filled))
            bar.update(len(chosen))
    filing.close()
