"""HTTP requests with checked redirects and retries, configured by the section `ingest` of `params.yaml`.

Opens the response to a URL or raises `TemporaryError` (retry later), `RefusedError` (never allowed), `AbsentError`
(no such file) or `DeniedError` (the server refuses).

Trade-off: redirects are followed here, hop by hop, instead of by aiohttp, so that the host policy checks every hop.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import aiohttp
import tenacity

from flows.download.host_policy import HostPolicy, RefusedError, host_of
from flows.download.response_headers import redirect_target, retry_after

T = TypeVar("T")
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_ABSENT = frozenset({404, 410})
_MOVED = frozenset({301, 302, 303, 307, 308})
_WHOLE = frozenset({200, 203})
_PART = frozenset({206, 416})
_UNCHANGED = 304


@dataclass(frozen=True, kw_only=True)
class PhotoLimits:
    """Limits on photo downloads (section `ingest.photos`)."""

    per_host: int = 16
    """Concurrent requests per host."""
    rate: float = 50.0
    """Maximum number of requests started per second and host; 0 disables the limit."""
    seconds: float = 60.0
    """Maximum seconds from the request for a photo to its last byte, redirects included."""
    max_bytes: int = 20_000_000
    """Maximum size of a photo in bytes."""
    max_pixels: int = 50_000_000
    """Maximum width times height of a photo."""
    hosts: tuple[str, ...] = (".media-amazon.com", ".ssl-images-amazon.com", ".images-amazon.com")
    """Hosts from which photos are accepted, redirects included. A leading dot matches every subdomain."""
    recheck_days: int | None = None
    """Days after which a photo is requested again with its ETag; null disables rechecks."""

    def __post_init__(self) -> None:
        if min(self.per_host, self.max_bytes, self.max_pixels) < 1 or self.rate < 0 or self.seconds <= 0:
            raise ValueError("photos must have per_host, max_bytes and max_pixels >= 1, rate >= 0 and seconds > 0")
        if self.recheck_days is not None and self.recheck_days < 0:
            raise ValueError(f"photos.recheck_days = {self.recheck_days} must be null or at least 0")


@dataclass(frozen=True, kw_only=True)
class IngestParams:
    """Parameters of downloads (section `ingest`)."""

    per_host: int = 2
    """Concurrent file downloads per host."""
    attempts: int = 5
    """Consecutive attempts without a new byte after which a download fails."""
    initial_backoff_seconds: float = 1.0
    """Seconds before the second attempt. The pause doubles with every attempt and is jittered by up to 100 %."""
    max_backoff_seconds: float = 300.0
    """Maximum seconds between two attempts. A larger Retry-After header ends the download."""
    connect_timeout_seconds: float = 30.0
    """Seconds to wait for a connection."""
    read_timeout_seconds: float = 60.0
    """Seconds to wait for the next bytes of a response."""
    min_bytes_per_second: int = 1000
    """Minimum mean throughput over `read_timeout_seconds`; a slower response is aborted and resumed. 0 disables it."""
    max_response_seconds: float = 86_400.0
    """Maximum seconds of one response, from the request to the last byte; a longer download is resumed by the next."""
    max_redirects: int = 5
    """Maximum number of redirects per request."""
    min_free_disk_bytes: int = 1_000_000_000
    """Bytes that must stay free on the disk."""
    hosts: tuple[str, ...] = ()
    """Additional hosts to which a file's URL may redirect. The hosts in `urls` are always allowed."""
    private_hosts: tuple[str, ...] = ()
    """Hosts, or host:port, that may resolve to private or loopback addresses, such as a local mirror."""
    photos: PhotoLimits = field(default_factory=PhotoLimits)
    """Limits on photo downloads."""

    def __post_init__(self) -> None:
        if min(self.per_host, self.attempts) < 1 or self.max_redirects < 0:
            raise ValueError("per_host and attempts must be at least 1, max_redirects at least 0")
        if min(self.connect_timeout_seconds, self.read_timeout_seconds, self.max_response_seconds) <= 0:
            raise ValueError("connect_timeout_, read_timeout_ and max_response_seconds must be above 0")
        if (
            min(
                self.initial_backoff_seconds,
                self.max_backoff_seconds,
                self.min_bytes_per_second,
                self.min_free_disk_bytes,
            )
            < 0
        ):
            raise ValueError("backoff, min_bytes_per_second and min_free_disk_bytes must not be negative")


class TemporaryError(Exception):
    """A failure that a retry may resolve; `wait` is the server's Retry-After in seconds, or None."""

    def __init__(self, found: str, wait: float | None = None) -> None:
        self.found, self.wait = found, wait
        super().__init__(found)


class AbsentError(Exception):
    """The URL does not exist (status 404 or 410)."""


class DeniedError(Exception):
    """The server refuses the request (401, 403 or another 4xx), or its certificate is invalid."""


@asynccontextmanager
async def open_response(
    session: aiohttp.ClientSession, url: str, policy: HostPolicy, config: IngestParams, *, seconds: float,
    headers: Mapping[str, str] | None = None, method: str = "GET",
) -> AsyncIterator[aiohttp.ClientResponse]:  # fmt: skip
    """Opens the response to `url`; follows redirects and checks each of them.

    The block that reads the body must end within `seconds` of the request, and the response's head must arrive within
    `connect_timeout_seconds` + `read_timeout_seconds`, redirects included.

    Raises:
        RefusedError: a hop's host, port or address is not allowed, or there is a redirect loop or too many redirects.
        TemporaryError: the connection failed, a deadline passed, or the server returned a retryable status.
        AbsentError: status 404 or 410.
        DeniedError: another status that does not bring the file, an invalid certificate, or an invalid response.
    """
    host = host_of(url)
    started = asyncio.get_running_loop().time()
    head_seconds = min(seconds, config.connect_timeout_seconds + config.read_timeout_seconds)
    try:
        async with asyncio.timeout_at(started + head_seconds) as limit:
            async with _followed(session, url, policy, config, headers=headers or {}, method=method) as response:
                limit.reschedule(started + seconds)
                yield response
    except aiohttp.ClientConnectorCertificateError as error:
        raise DeniedError(f"an invalid certificate: {error}"[:300]) from error
    except aiohttp.ClientConnectorError as error:
        raise _cause(error) from error
    except aiohttp.InvalidURL as error:
        raise RefusedError("bad_address", str(error)[:120]) from error
    except TimeoutError as error:
        if limit.expired():
            allowed = (limit.when() or started) - started
            raise TemporaryError(f"no complete response from {host} in {allowed:g} s") from error
        raise TemporaryError(f"{type(error).__name__} from {host}: {error}"[:300]) from error
    except (aiohttp.ClientError, aiohttp.EofStream, aiohttp.http.HttpProcessingError) as error:
        raise TemporaryError(f"{type(error).__name__} from {host}: {error}"[:300]) from error
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:  # a parser of aiohttp or of the standard
        raise DeniedError(f"an invalid response from {host} ({type(error).__name__}: {error})"[:300]) from error


@asynccontextmanager
async def _followed(
    session: aiohttp.ClientSession, url: str, policy: HostPolicy, config: IngestParams, *,
    headers: Mapping[str, str], method: str,
) -> AsyncIterator[aiohttp.ClientResponse]:  # fmt: skip
    """The first response that is no redirect and has an expected status."""
    seen = {url}
    for _ in range(config.max_redirects + 1):
        policy.check(url)
        async with session.request(method, url, headers=headers, allow_redirects=False) as response:
            if response.status not in _MOVED:
                _check_status(response, headers)
                yield response
                return
            location = response.headers.get("Location", "")
        try:
            url = redirect_target(url, location)
        except ValueError as error:
            raise RefusedError("bad_address", f"a redirect to {location[:120]!a}: {error}") from error
        if url in seen:
            raise RefusedError("redirect_circle", f"{url[:120]} for the second time")
        seen.add(url)
    raise RefusedError("too_many_redirects", f"{config.max_redirects} hops, then {url[:120]}")


def _check_status(response: aiohttp.ClientResponse, headers: Mapping[str, str]) -> None:
    """Raises unless the status brings the whole file, or answers the condition or the range that was sent."""
    status, host = response.status, response.url.host
    if status in _AGAIN:
        raise TemporaryError(f"status {status} from {host}", retry_after(response.headers.get("Retry-After")))
    if status in _ABSENT:
        raise AbsentError(f"status {status} from {host}")
    if status in _WHOLE or (status in _PART and "Range" in headers):
        return
    if status == _UNCHANGED and headers.keys() & {"If-None-Match", "If-Modified-Since"}:
        return
    raise DeniedError(f"status {status} from {host}, which does not bring the file")


def _cause(error: BaseException) -> Exception:
    """The RefusedError with which the resolver stopped the connection, else a TemporaryError."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, RefusedError):
            return found
        found = found.__cause__ or found.__context__
    return TemporaryError(f"{type(error).__name__}: {error}"[:300])


async def with_retries(
    work: Callable[[], Awaitable[T]], config: IngestParams, *, progress: Callable[[], int] = lambda: 0,
    on_wait: Callable[[str], None] = lambda _: None,
) -> T:  # fmt: skip
    """Awaits `work` and retries it after each TemporaryError.

    Args:
        work: one attempt.
        config: number of attempts and backoff.
        progress: a number that grows with progress; attempts are counted from its last increase.
        on_wait: called before each pause with the error and the length of the pause.

    Raises:
        TemporaryError: the attempts are exhausted, or Retry-After exceeds `max_backoff_seconds`.
    """
    best, used = progress(), 0
    met: list[TemporaryError] = []
    try:
        return await work()  # the first attempt bypasses tenacity, which costs as much as requesting a small photo
    except TemporaryError as error:
        met.append(error)

    async def again() -> T:
        if met:
            raise met.pop()
        return await work()

    def give_up(state: tenacity.RetryCallState) -> bool:
        nonlocal best, used
        used = 1 if progress() > best else used + 1
        best = max(best, progress())
        return used >= config.attempts or (_asked(state) or 0) > config.max_backoff_seconds

    def pause(state: tenacity.RetryCallState) -> float:
        base = min(config.initial_backoff_seconds * 2 ** (used - 1), config.max_backoff_seconds)
        jittered = random.uniform(base, 2 * base)
        return max(min(jittered, config.max_backoff_seconds), _asked(state) or 0)

    def report(state: tenacity.RetryCallState) -> None:
        wait = state.next_action.sleep if state.next_action else 0
        on_wait(f"{_error(state)}; retrying in {wait:.1f} s")

    async for attempt in tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(TemporaryError), stop=give_up, wait=pause, before_sleep=report,
        sleep=asyncio.sleep, reraise=True,
    ):  # fmt: skip
        with attempt:
            return await again()
    raise AssertionError("unreachable")  # pragma: no cover - tenacity returns or raises


def _error(state: tenacity.RetryCallState) -> BaseException | None:
    return state.outcome.exception() if state.outcome else None


def _asked(state: tenacity.RetryCallState) -> float | None:
    error = _error(state)
    return error.wait if isinstance(error, TemporaryError) else None
