"""Loads photos into pixel batches: workers read, verify, decode and resize into reusable buffers.

Reads photo locations and digests. Returns full batches (B, H, W, 3) uint8 with one `Outcome` per photo.
Trade-off: on a CPU, decoding and encoding alternate on all cores, because the threads of a matrix product wait for the
slowest one. For a GPU, processes decode batches ahead into pinned shared memory.
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
from features.vision.decode_memory import MemoryBudget, Take
from features.vision.image_decoding import PhotoLimits, Rejection, decode, unreadable
from features.vision.photo_store import Photo, read_photo
from features.vision.pixel_buffers import Buffer, Target, new_buffer, view
from features.vision.preprocessing import Fit

if TYPE_CHECKING:
    import torch

AHEAD_OF_A_GPU = 3
TASKS_PER_WORKER = 2  # per batch: more would balance the load better but send more messages


@dataclass(frozen=True, kw_only=True)
class Job:
    """One photo to encode, by the digest of its bytes."""

    digest: str
    photo: Photo


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Settings that turn bytes into pixels; `shrink_to` as in `image_decoding.decode`."""

    fit: Fit
    limits: PhotoLimits
    shrink_to: int | None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """Result of loading one photo; its pixels are in the batch's row unless there is a `rejection`."""

    digest: str
    kind: str | None = None
    treatment: tuple[str, ...] = ()
    rejection: Rejection | None = None


@dataclass(frozen=True, kw_only=True)
class Found:
    """Cached features: `rows` maps a digest to its index in `outcomes` and in `vectors` (N, D) float32."""

    rows: dict[str, int]
    outcomes: list[Outcome]
    vectors: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Batch:
    """A batch with one outcome per used row of `pixels`; later rows and rows of rejects are padding."""

    outcomes: list[Outcome]
    pixels: "torch.Tensor"


class Feeder:
    """Loads batches of photos with worker threads or processes; use it in a `with` block.

    Args:
        recipe: Settings that turn bytes into pixels.
        batch_size: Rows of every batch. Short batches are padded: the encoder sees one shape, so that a feature does
            not depend on the other photos of its batch.
        workers: Number of threads or processes.
        kind: threads or processes. Threads reach about 2,000 photos per second, limited by the interpreter lock.
        device: Device of the encoder.
        ahead: Batches decoded in advance; None for 3 with a GPU and 0 on a CPU.
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
        self._budget: MemoryBudget | None = None

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
        num_bytes = int(self.recipe.limits.max_decode_megabytes * 1e6)
        if not self.shared:
            self._budget = MemoryBudget(num_bytes)
            return ThreadPoolExecutor(self.workers, thread_name_prefix="decode")
        import multiprocessing

        spawn = multiprocessing.get_context("spawn")
        budget = MemoryBudget(num_bytes, spawn)
        return ProcessPoolExecutor(self.workers, mp_context=spawn, initializer=_set_budget, initargs=(budget,))

    def batches(self, jobs: Iterable[Job]) -> Generator[Batch]:
        """Yields the photos of `jobs` in order, `batch_size` at a time; `jobs` is consumed lazily.

        The pixels of a batch are valid until the second batch after it is requested.

        Raises:
            InputError: A photo changed after its digest was computed.
            TrainingError: A worker process died.
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
                    "a decoding process that died", "running worker processes (out of memory?)", "lower images.workers"
                ) from error
            self.waited_seconds += time.monotonic() - began
            yield Batch(outcomes=outcomes, pixels=self._buffers[place % len(self._buffers)].pixels)

    def _submit(self, jobs: Sequence[Job], buffer: Buffer) -> list[Future[list[Outcome]]]:
        size = -(-len(jobs) // (self.workers * TASKS_PER_WORKER))
        return [
            self._pool.submit(fill, buffer.target, start, jobs[start : start + size], self.recipe, self._budget)
            for start in range(0, len(jobs), size)
        ]


_budget_of_process: MemoryBudget | None = None


def _set_budget(budget: MemoryBudget) -> None:
    """Keeps the budget in a worker process: its lock is inherited, and cannot be sent with a task."""
    global _budget_of_process  # noqa: PLW0603
    _budget_of_process = budget


def fill(
    target: Target, start: int, jobs: Sequence[Job], recipe: Recipe, budget: MemoryBudget | None = None
) -> list[Outcome]:
    """Loads the photos of `jobs` into the rows of a buffer, beginning at `start`; runs in a worker.

    `budget` is None in a process, which has that of its start.
    """
    rows, memory = view(target), budget or _budget_of_process
    return [prepare(job, recipe, rows[start + offset], memory) for offset, job in enumerate(jobs)]


def prepare(job: Job, recipe: Recipe, row: np.ndarray, budget: MemoryBudget | None = None) -> Outcome:
    """Reads, verifies, decodes and resizes one photo into `row` (H, W, 3); waits for its share of `budget`."""
    data = read_photo(job.photo)
    if hashlib.sha256(data).hexdigest() != job.digest:
        raise InputError(
            f"{job.photo.source}, which changed during this run", "unchanged bytes",
            "do not modify the photo folder while a stage reads it",
        )  # fmt: skip
    with (budget or MemoryBudget(0)).share() as take:
        return _fill_row(job.digest, data, recipe, row, take)


def _fill_row(digest: str, data: bytes, recipe: Recipe, row: np.ndarray, take: Take) -> Outcome:
    decoded = decode(data, recipe.limits, recipe.shrink_to, take)
    if isinstance(decoded, Rejection):
        return Outcome(digest=digest, rejection=decoded)
    try:
        row[:] = recipe.fit(decoded.image, decoded.whole)
    except Exception as error:  # noqa: BLE001 - it concerns this photo alone
        return Outcome(digest=digest, rejection=unreadable(error))
    return Outcome(digest=digest, kind=decoded.kind, treatment=decoded.treatment)
