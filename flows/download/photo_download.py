"""Photos by their items' addresses: many at once, each host at its pace, every outcome on record.

Enters: item keys with addresses, and the outcomes of earlier runs. Leaves: photos named by item key in `incoming.tar`,
and `outcomes.jsonl`. Trade-off: a photo is held in memory (at most `max_bytes`) and only its header is looked at:
whether its pixels can be decoded is for the stage `images` to say, which has to decode them anyway.
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
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from flows.download.host_policy import HostPolicy, RefusedError, host_of
from flows.download.http_client import (
    AbsentError,
    DeniedError,
    Fetching,
    PhotoLimits,
    TemporaryError,
    answer,
    client,
    patiently,
)
from flows.download.photo_log import FILE, Outcome, append, appending, read_outcomes
from flows.download.tar_shards import Incoming

log = logging.getLogger("vip5")
_SAFE_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}")
_SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png"}
_TYPES = ("image/", "application/octet-stream", "binary/octet-stream")
INCOMING = "incoming.tar"
_DAY = 86_400
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """One photo to fetch."""

    item_key: str
    url: str


@dataclass(kw_only=True)
class _Pacer:
    """Lets `rate` requests a second begin, evenly spaced."""

    rate: float
    _next: float = field(default=0.0)

    async def turn(self) -> None:
        if not self.rate:
            return
        now = time.monotonic()
        begin = max(now, self._next)
        self._next = begin + 1 / self.rate
        if begin > now:
            await asyncio.sleep(begin - now)


@dataclass(frozen=True, kw_only=True)
class _Means:
    """What every fetch of one run shares."""

    how: Fetching
    policy: HostPolicy
    session: aiohttp.ClientSession
    incoming: Incoming


def fetch_photos(wanted: Sequence[Wanted], folder: Path, how: Fetching, *, now: float | None = None) -> Counter[str]:
    """Fetches what is not settled into `folder`/incoming.tar; returns how many had which result.

    `held` counts those that were not asked for. An item is settled when it was fetched, missing or refused at the same
    address, unless `recheck_days` passed since; what failed is tried again. Safe to kill and to repeat.
    """
    moment = time.time() if now is None else now
    earlier = read_outcomes(folder / FILE)
    due = [one for one in wanted if _due(one, earlier.get(one.item_key), how.photos, moment)]
    counts = Counter({"held": len(wanted) - len(due)} if len(due) < len(wanted) else {})
    incoming = Incoming(folder / INCOMING)
    try:
        with appending(folder / FILE) as stream:
            counts += asyncio.run(_fetch_all(due, earlier, incoming, how, stream))
    finally:
        incoming.close()
    return counts


def _due(one: Wanted, known: Outcome | None, limits: PhotoLimits, now: float) -> bool:
    if known is None or known.url != one.url or known.result == "failed":
        return True
    return limits.recheck_days is not None and now - known.asked_at >= limits.recheck_days * _DAY


async def _fetch_all(
    due: Sequence[Wanted], earlier: Mapping[str, Outcome], incoming: Incoming, how: Fetching, stream: TextIO
) -> Counter[str]:
    limits = how.photos
    policy = HostPolicy(allowed=limits.hosts, private=how.private_hosts)
    by_host = defaultdict[str, list[Wanted]](list)
    for one in due:
        by_host[host_of(one.url)].append(one)
    counts = Counter[str]()
    width = limits.per_host * max(1, min(len(by_host), 16))
    total = asyncio.Semaphore(width)
    with tqdm(total=len(due), desc="photos", unit=" photos", delay=1, mininterval=1.0, disable=None) as bar:
        async with client(how, policy, connections=width) as session:
            means = _Means(how=how, policy=policy, session=session, incoming=incoming)

            async def worker(queue: Iterator[Wanted], pacer: _Pacer) -> None:
                for one in queue:  # every worker of a host takes the next of one list
                    async with total:
                        outcome = await _fetch(one, earlier.get(one.item_key), means, pacer)
                    append(stream, outcome)
                    counts[outcome.result] += 1
                    bar.update()

            async with asyncio.TaskGroup() as group:
                for photos in by_host.values():
                    queue, pacer = iter(photos), _Pacer(rate=limits.rate)
                    for _ in range(min(limits.per_host, len(photos))):
                        group.create_task(worker(queue, pacer))
    return counts


async def _fetch(one: Wanted, known: Outcome | None, means: _Means, pacer: _Pacer) -> Outcome:
    """The outcome of one photo, after as many tries as `how` allows."""
    how = means.how
    held = known if known is not None and known.held else None  # stays known, whatever becomes of this try
    outcome = partial(
        Outcome, item_key=one.item_key, url=one.url, asked_at=int(time.time()),
        sha256=held.sha256 if held else None, name=held.name if held else None,
    )  # fmt: skip
    if not _SAFE_KEY.fullmatch(one.item_key):
        return outcome(result="refused", detail="unsafe_item_key")

    async def once() -> Outcome:
        await pacer.turn()
        headers = {} if known is None or known.url != one.url else _conditions(known)
        async with answer(means.session, one.url, means.policy, redirects=how.redirects, headers=headers) as response:
            if response.status == 304 and known is not None:
                return outcome(result="unchanged", etag=known.etag, last_modified=known.last_modified)
            data = await _body(response, how.photos)
            validators = response.headers.get("ETag"), response.headers.get("Last-Modified")
        name = f"{one.item_key}{_suffix(data, how.photos)}"
        digest = hashlib.sha256(data).hexdigest()
        same = held is not None and held.sha256 == digest
        if not same:
            means.incoming.add(name, data)
        return outcome(
            result="unchanged" if same else "fetched", sha256=digest, name=name,
            etag=validators[0], last_modified=validators[1],
        )  # fmt: skip

    try:
        return await patiently(once, how)
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
    """The photo's bytes; RefusedError where type or size are beyond the limits."""
    kind = response.content_type.lower()
    if not kind.startswith(_TYPES):
        raise RefusedError("not_an_image", f"content type {kind[:80]}")
    if (response.content_length or 0) > limits.max_bytes:
        raise RefusedError("too_large", f"{response.content_length} bytes announced")
    blocks, size = [], 0
    deadline = time.monotonic() + limits.seconds
    async for block in response.content.iter_any():
        blocks.append(block)
        size += len(block)
        if size > limits.max_bytes:
            raise RefusedError("too_large", f"more than {limits.max_bytes} bytes")
        if time.monotonic() > deadline:  # a trickle never falls silent
            raise TemporaryError(f"{size} bytes in {limits.seconds:g} s")
    if not size:
        raise RefusedError("empty", "0 bytes")
    return b"".join(blocks)


def _suffix(data: bytes, limits: PhotoLimits) -> str:
    """The suffix that the photo's own header asks for; RefusedError where it is no photo or has too many pixels."""
    kind, width, height = jpeg_header(data) or _header(data)
    if width * height > limits.max_pixels:
        raise RefusedError("too_large", f"{width} x {height} pixels")
    return _SUFFIXES[kind]


def jpeg_header(data: bytes) -> tuple[str, int, int] | None:
    """("JPEG", width, height) from the frame header; None where the bytes are not plainly a JPEG (ITU T.81, B.1).

    A tenth of the time that opening the photo takes, which was half of all that is done with one.
    """
    place = 2 if data[:3] == b"\xff\xd8\xff" else len(data)
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if marker in _FRAMES:
            return "JPEG", int.from_bytes(data[place + 7 : place + 9]), int.from_bytes(data[place + 5 : place + 7])
        if marker in {0xD8, 0xD9, 0xDA, 0xFF}:
            return None
        place += 2 + int.from_bytes(data[place + 2 : place + 4])
    return None


def _header(data: bytes) -> tuple[str, int, int]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(data), formats=("JPEG", "PNG")) as image:
                return image.format or "", *image.size
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise RefusedError("not_an_image", f"{type(error).__name__}: {str(error)[:80]}") from error
