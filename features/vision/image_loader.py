"""Photos to batches of pixels: workers read, verify, decode and resize into buffers that the encoder takes as they are.

Enters: where photos lie and their digests. Leaves: full batches (B, H, W, 3) uint8 with one `Outcome` a photo.
Trade-off: on a CPU, decoding and encoding take turns on all cores, because the threads of a matrix product wait for the
slowest of them; beside a GPU, batches are decoded ahead, by processes, into pinned shared memory.
"""

import hashlib
import time
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

import numpy as np

from features.errors import InputError, TrainingError
from features.vision.image_decoding import PhotoLimits, Rejection, decode
from features.vision.photo_store import Photo, read_photo
from features.vision.pixel_buffers import Buffer, Target, new_buffer, view
from features.vision.preprocessing import Fit

if TYPE_CHECKING:
    import torch

AHEAD_OF_A_GPU = 3
TASKS_A_WORKER = 2  # of one batch: more would even out uneven photos, and cost more messages


@dataclass(frozen=True, kw_only=True)
class Job:
    """One photo to encode, by the digest of its bytes."""

    digest: str
    photo: Photo


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What turns bytes into pixels: `shrink_to` as in `decoding.decode`."""

    fit: Fit
    limits: PhotoLimits
    shrink_to: int | None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of one photo; its pixels lie in the batch's row unless there is a `rejection`."""

    digest: str
    kind: str | None = None
    treatment: tuple[str, ...] = ()
    rejection: Rejection | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """Rows of the store: `rows` maps a digest to its place in `outcomes` and `vectors` (N, D) float32."""

    rows: dict[str, int]
    outcomes: list[Outcome]
    vectors: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Batch:
    """One outcome for each of the first rows of `pixels`; the rows beyond them, and those of rejects, are idle."""

    outcomes: list[Outcome]
    pixels: "torch.Tensor"


class Feeder:
    """Workers and buffers; to be used in a `with` block.

    Args:
        recipe: bytes to pixels.
        batch_size: rows of every batch. A short one is filled with idle rows: the encoder sees one shape only, so that
            a feature does not depend on what shares its batch.
        workers: threads or processes.
        kind: which of the two. Threads suffice for about 2,000 photos a second; Python itself is the limit there.
        device: of the encoder.
        ahead: batches that are decoded before they are asked for; None: 3 beside a GPU, none on a CPU.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        batch_size: int,
        workers: int,
        kind: Literal["threads", "processes"],
        device: str,
        ahead: int | None = None,
    ) -> None:
        self.recipe, self.batch_size, self.workers = recipe, batch_size, workers
        self.shared = kind == "processes"
        self.device = device
        self.ahead = ahead if ahead is not None else AHEAD_OF_A_GPU if device.startswith("cuda") else 0
        self.waited_seconds = 0.0
        self._buffers: list[Buffer] = []

    def __enter__(self) -> Self:
        shape = (self.batch_size, self.recipe.fit.height, self.recipe.fit.width, 3)
        pinned = self.device.startswith("cuda")
        for _ in range(self.ahead + 2):
            self._buffers.append(new_buffer(shape, shared=self.shared, pinned=pinned))
        self._pool = self._executor()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
        while self._buffers:
            self._buffers.pop().close()

    def _executor(self) -> Executor:
        if not self.shared:
            return ThreadPoolExecutor(self.workers, thread_name_prefix="decode")
        import multiprocessing

        return ProcessPoolExecutor(self.workers, mp_context=multiprocessing.get_context("spawn"))

    def batches(self, jobs: Iterable[Job]) -> Generator[Batch]:
        """The photos of `jobs` in their order, `batch_size` at a time; they are asked for as they are needed.

        A batch's pixels stay as they are until the second batch after it is asked for.

        Raises:
            InputError: a photo changed since its digest was taken.
            TrainingError: a worker process died.
        """
        left, following = iter(jobs), 0
        waiting: deque[tuple[int, list[Future[list[Outcome]]]]] = deque()
        while True:
            while len(waiting) <= self.ahead and (chosen := list(islice(left, self.batch_size))):
                waiting.append((following, self._submit(chosen, self._buffers[following % len(self._buffers)])))
                following += 1
            if not waiting:
                return
            place, parts = waiting.popleft()
            began = time.monotonic()
            try:
                outcomes = [outcome for part in parts for outcome in part.result()]
            except BrokenProcessPool as error:
                raise TrainingError(
                    "a decoding process that died", "processes that live on (memory?)", "set fewer images.workers"
                ) from error
            self.waited_seconds += time.monotonic() - began
            yield Batch(outcomes=outcomes, pixels=self._buffers[place % len(self._buffers)].pixels)

    def _submit(self, jobs: Sequence[Job], buffer: Buffer) -> list[Future[list[Outcome]]]:
        size = -(-len(jobs) // (self.workers * TASKS_A_WORKER))
        return [
            self._pool.submit(fill, buffer.target, start, jobs[start : start + size], self.recipe)
            for start in range(0, len(jobs), size)
        ]


def fill(target: Target, start: int, jobs: Sequence[Job], recipe: Recipe) -> list[Outcome]:
    """Puts the photos of `jobs` into the rows of a buffer from `start` on; runs in a worker."""
    rows = view(target)
    return [prepare(job, recipe, rows[start + offset]) for offset, job in enumerate(jobs)]


def prepare(job: Job, recipe: Recipe, row: np.ndarray) -> Outcome:
    """Reads, verifies, decodes and resizes one photo into `row` (H, W, 3)."""
    data = read_photo(job.photo)
    if hashlib.sha256(data).hexdigest() != job.digest:
        raise InputError(
            f"{job.photo.source}, which changed within this run", "the bytes of a moment ago",
            "leave the photo folder alone while a stage reads it",
        )  # fmt: skip
    found = decode(data, recipe.limits, recipe.shrink_to)
    if isinstance(found, Rejection):
        return Outcome(digest=job.digest, rejection=found)
    row[:] = recipe.fit(found.image, found.whole)
    return Outcome(digest=job.digest, kind=found.kind, treatment=found.treatment)
