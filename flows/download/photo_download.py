"""Concurrent photo downloads with a request rate per host and a log of every outcome.

Reads item keys with URLs, and the outcomes of earlier runs. Writes photos named by item key to `incoming.tar`, and
`outcomes.jsonl`.

Trade-off: a photo is held in memory (at most `max_bytes`) and only its header is parsed. The stage `images` decodes
the pixels and rejects broken photos.
"""

import asyncio
import hashlib
import io
import logging
import re
import time
import warnings
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TextIO

import aiohttp
from PIL import Image
from tqdm import tqdm

from features.vision.hostile_structures import hostile
from flows.download.host_policy import HostPolicy, RefusedError, host_of
from flows.download.http_client import (
    AbsentError,
    DeniedError,
    IngestParams,
    PhotoLimits,
    TemporaryError,
    open_response,
    with_retries,
)
from flows.download.photo_log import FILE, Outcome, append, appending, read_outcomes
from flows.download.response_headers import validator
from flows.download.sessions import open_session
from flows.download.tar_shards import AppendTar

log = logging.getLogger("vip5")
_SAFE_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png"}
_TYPES = ("image/", "application/octet-stream", "binary/octet-stream")
INCOMING = "incoming.tar"
_DAY = 86_400


@dataclass(frozen=True, kw_only=True)
class PhotoRequest:
    """A photo to download."""

    item_key: str
    url: str


@dataclass(kw_only=True)
class _RateLimiter:
    """Spaces the starts of requests evenly at `rate` requests per second."""

    rate: float
    _next: float = field(default=0.0)

    async def wait_turn(self) -> None:
        if not self.rate:
            return
        now = time.monotonic()
        begin = max(now, self._next)
        self._next = begin + 1 / self.rate
        if begin > now:
            await asyncio.sleep(begin - now)


@dataclass(frozen=True, kw_only=True)
class _FetchContext:
    """The objects that all downloads of one run share."""

    config: IngestParams
    policy: HostPolicy
    session: aiohttp.ClientSession
    incoming: AppendTar


def fetch_photos(
    wanted: Sequence[PhotoRequest], folder: Path, config: IngestParams, *, now: float | None = None
) -> Counter[str]:
    """Downloads photos into `folder`/incoming.tar; returns the number of photos by result.

    Skips photos that an earlier run fetched, found missing or refused at the same URL, unless `recheck_days` have
    passed; `held` counts them. Failed photos are retried. Safe to kill and to repeat.

    Raises:
        OSError: the photos or the log cannot be written, such as on a full disk.
    """
    moment = time.time() if now is None else now
    earlier = read_outcomes(folder / FILE)
    due = [one for one in wanted if _due(one, earlier.get(one.item_key), config.photos, moment)]
    counts = Counter({"held": len(wanted) - len(due)} if len(due) < len(wanted) else {})
    incoming = AppendTar(folder / INCOMING)
    try:
        with appending(folder / FILE) as stream:
            counts += asyncio.run(_fetch_all(due, earlier, incoming, config, stream))
    except BaseExceptionGroup as group:  # of the workers: a full disk stops them all
        raise group.exceptions[0] from None
    finally:
        incoming.close()
    return counts


def _due(one: PhotoRequest, known: Outcome | None, limits: PhotoLimits, now: float) -> bool:
    if known is None or known.url != one.url or known.result == "failed":
        return True
    return limits.recheck_days is not None and now - known.asked_at >= limits.recheck_days * _DAY


async def _fetch_all(
    due: Sequence[PhotoRequest],
    earlier: Mapping[str, Outcome],
    incoming: AppendTar,
    config: IngestParams,
    stream: TextIO,
) -> Counter[str]:
    limits = config.photos
    policy = HostPolicy(allowed=limits.hosts, private=config.private_hosts)
    by_host = defaultdict[str, list[PhotoRequest]](list)
    for one in due:
        by_host[host_of(one.url)].append(one)
    counts = Counter[str]()
    width = limits.per_host * max(1, min(len(by_host), 16))
    total = asyncio.Semaphore(width)
    with tqdm(total=len(due), desc="photos", unit=" photos", delay=1, mininterval=1.0, disable=None) as bar:
        async with open_session(config, policy, connections=width) as session:
            shared = _FetchContext(config=config, policy=policy, session=session, incoming=incoming)

            async def worker(queue: Iterator[PhotoRequest], limiter: _RateLimiter) -> None:
                for one in queue:  # the workers of a host share one iterator
                    async with total:
                        outcome = await _fetch(one, earlier.get(one.item_key), shared, limiter)
                    append(stream, outcome)
                    counts[outcome.result] += 1
                    bar.update()

            async with asyncio.TaskGroup() as group:
                for photos in by_host.values():
                    queue, limiter = iter(photos), _RateLimiter(rate=limits.rate)
                    for _ in range(min(limits.per_host, len(photos))):
                        group.create_task(worker(queue, limiter))
    return counts


async def _fetch(one: PhotoRequest, known: Outcome | None, shared: _FetchContext, limiter: _RateLimiter) -> Outcome:
    """Downloads one photo, with retries, and returns its outcome."""
    config = shared.config
    held = known if known is not None and known.held else None  # kept in the log, whatever the result of this attempt
    outcome = partial(
        Outcome, item_key=one.item_key, url=one.url, asked_at=int(time.time()),
        sha256=held.sha256 if held else None, name=held.name if held else None,
    )  # fmt: skip
    if not _SAFE_KEY.fullmatch(one.item_key):
        return outcome(result="refused", detail="unsafe_item_key")

    async def once() -> Outcome:
        await limiter.wait_turn()
        headers = {} if known is None or known.url != one.url else _conditions(known)
        async with open_response(
            shared.session, one.url, shared.policy, config, headers=headers, seconds=config.photos.seconds
        ) as response:
            if response.status == 304 and known is not None:
                return outcome(result="unchanged", etag=known.etag, last_modified=known.last_modified)
            data = await _body(response, config.photos)
            validators = validator(response.headers, "ETag"), validator(response.headers, "Last-Modified")
        name = f"{one.item_key}{_suffix(data, config.photos)}"
        digest = hashlib.sha256(data).hexdigest()
        same = held is not None and held.sha256 == digest
        if not same:
            shared.incoming.add(name, data)
        return outcome(
            result="unchanged" if same else "fetched", sha256=digest, name=name,
            etag=validators[0], last_modified=validators[1],
        )  # fmt: skip

    try:
        return await with_retries(once, config)
    except RefusedError as error:
        return outcome(result="refused", detail=str(error))
    except AbsentError as error:
        return outcome(result="missing", detail=str(error))
    except DeniedError as error:
        return outcome(result="refused", detail=f"denied ({error})")
    except TemporaryError as error:
        return outcome(result="failed", detail=error.found)


def _conditions(known: Outcome) -> dict[str, str]:
    if not known.held:
        return {}
    wanted = {"If-None-Match": known.etag, "If-Modified-Since": None if known.etag else known.last_modified}
    return {name: value for name, value in wanted.items() if value}


async def _body(response: aiohttp.ClientResponse, limits: PhotoLimits) -> bytes:
    """The photo's bytes; raises RefusedError if its content type or size exceeds the limits."""
    kind = response.content_type.lower()
    if not kind.startswith(_TYPES):
        raise RefusedError("not_an_image", f"content type {kind[:80]}")
    if (response.content_length or 0) > limits.max_bytes:
        raise RefusedError("too_large", f"{response.content_length} bytes announced")
    blocks, size = [], 0
    async for block in response.content.iter_any():
        blocks.append(block)
        size += len(block)
        if size > limits.max_bytes:
            raise RefusedError("too_large", f"more than {limits.max_bytes} bytes")
    if not size:
        raise RefusedError("empty", "0 bytes")
    return b"".join(blocks)


def _suffix(data: bytes, limits: PhotoLimits) -> str:
    """The suffix for the photo's format; raises RefusedError if it is no photo or has too many pixels."""
    kind, width, height = _header(data)
    if width * height > limits.max_pixels:
        raise RefusedError("too_large", f"{width} x {height} pixels")
    return _SUFFIXES[kind]


def _header(data: bytes) -> tuple[str, int, int]:
    """Format, width and height; raises RefusedError if the bytes are neither JPEG nor PNG, or costly to open."""
    costly = hostile(data)
    if costly:
        raise RefusedError("too_large", costly)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
                return image.format or "", *image.size
    except Exception as error:  # whatever a decoder raises concerns this photo alone
        raise RefusedError("not_an_image", f"{type(error).__name__}: {str(error)[:80]}") from error
