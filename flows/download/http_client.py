"""How anything is fetched: the section `ingest` of `params.yaml`, and one polite, checked request after another.

Enters: an address. Leaves: an open response, after every redirect was checked; or one of three errors that say what to
do: `TemporaryError` (again, later), `RefusedError` (never), `AbsentError` (not there).
Trade-off: redirects are followed here, hop by hop, instead of by the client, so that none escapes the check.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import TypeVar
from urllib.parse import urljoin

import aiohttp
import tenacity

from flows.download.host_policy import CheckedResolver, HostPolicy, RefusedError, host_of

T = TypeVar("T")
AGENT = "vip5-line/0.1"
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_ABSENT = frozenset({404, 410})
_MOVED = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, kw_only=True)
class PhotoLimits:
    """What a photo's address may give."""

    per_host: int = 16
    """Requests under way at one host at once."""
    rate: float = 50.0
    """Requests a second that are begun at one host at most; 0: any number."""
    seconds: float = 60.0
    """From a photo's first byte to its last."""
    max_bytes: int = 20_000_000
    """Bytes of a photo."""
    max_pixels: int = 50_000_000
    """Width times height of a photo."""
    hosts: tuple[str, ...] = (".media-amazon.com", ".ssl-images-amazon.com", ".images-amazon.com")
    """Hosts that photos may come from, redirects included; a leading dot stands for every name below."""
    recheck_days: int | None = None
    """Ask again, by ETag, for what was settled longer ago than this; null: never."""

    def __post_init__(self) -> None:
        if min(self.per_host, self.max_bytes, self.max_pixels) < 1 or self.rate < 0 or self.seconds <= 0:
            raise ValueError("photos: per_host, max_bytes, max_pixels >= 1, rate >= 0 and seconds > 0 must hold")
        if self.recheck_days is not None and self.recheck_days < 0:
            raise ValueError(f"photos.recheck_days = {self.recheck_days} must not be negative, or null")


@dataclass(frozen=True, kw_only=True)
class Fetching:
    """Parameters of every fetch by address (section `ingest`)."""

    per_host: int = 2
    """Files fetched from one host at once."""
    attempts: int = 5
    """Tries in a row without a new byte before a file is given up."""
    first_wait_seconds: float = 1.0
    """Before the second try; doubled each time, with up to as much again by chance."""
    longest_wait_seconds: float = 300.0
    """Between two tries; a server that asks for more (Retry-After) is given up."""
    connect_seconds: float = 30.0
    """To reach a host."""
    silence_seconds: float = 60.0
    """Between two pieces of an answer."""
    slowest_bytes_per_second: int = 1000
    """Mean over `silence_seconds`; an answer that trickles more slowly is broken off and resumed. 0: any."""
    redirects: int = 5
    """Hops of one request at most."""
    spare_bytes: int = 1_000_000_000
    """Disk that must stay free."""
    hosts: tuple[str, ...] = ()
    """Further hosts that a file's address may redirect to; those in `urls` are always allowed."""
    private_hosts: tuple[str, ...] = ()
    """Names, or name:port, that may lead to private or loopback addresses, such as a mirror of one's own."""
    photos: PhotoLimits = field(default_factory=PhotoLimits)
    """Of photos by their items' addresses."""

    def __post_init__(self) -> None:
        if min(self.per_host, self.attempts) < 1 or self.redirects < 0:
            raise ValueError("per_host and attempts of at least 1 and redirects of at least 0 must hold")
        if min(self.connect_seconds, self.silence_seconds) <= 0:
            raise ValueError("connect_seconds and silence_seconds must be above 0")
        if min(self.first_wait_seconds, self.longest_wait_seconds, self.slowest_bytes_per_second, self.spare_bytes) < 0:
            raise ValueError("waits, slowest_bytes_per_second and spare_bytes must not be negative")


class TemporaryError(Exception):
    """A failure that the next try may not have; `wait` is what the server asked for, in seconds."""

    def __init__(self, found: str, wait: float | None = None) -> None:
        self.found, self.wait = found, wait
        super().__init__(found)


class AbsentError(Exception):
    """The server says that there is no such thing (404, 410)."""


class DeniedError(Exception):
    """The server will not give it (401, 403, another 4xx), or is not who it says."""


@asynccontextmanager
async def client(how: Fetching, policy: HostPolicy, connections: int) -> AsyncIterator[aiohttp.ClientSession]:
    """A session that resolves through the check, keeps no cookies and follows no redirect."""
    connector = aiohttp.TCPConnector(
        resolver=CheckedResolver(policy), limit=connections, limit_per_host=connections, ttl_dns_cache=300
    )
    timeout = aiohttp.ClientTimeout(
        total=None, connect=None, sock_connect=how.connect_seconds, sock_read=how.silence_seconds
    )
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False,
        headers={"User-Agent": AGENT, "Accept-Encoding": "identity"},
    ) as session:  # fmt: skip
        yield session


@asynccontextmanager
async def answer(
    session: aiohttp.ClientSession, url: str, policy: HostPolicy, *, redirects: int,
    headers: Mapping[str, str] | None = None, method: str = "GET",
) -> AsyncIterator[aiohttp.ClientResponse]:  # fmt: skip
    """The response to `url`, redirects followed and checked.

    Raises:
        RefusedError: a host, port or address that is not allowed, at any hop; a circle; too many hops.
        TemporaryError: no connection, silence, or a status that asks for patience.
        AbsentError: 404 or 410.
        DeniedError: another 4xx, or a certificate that does not hold.
    """
    seen = {url}
    for _ in range(redirects + 1):
        policy.check(url)
        try:
            async with session.request(method, url, headers=headers, allow_redirects=False) as response:
                if response.status not in _MOVED:
                    _check_status(response)
                    yield response
                    return
                following = urljoin(url, response.headers.get("Location", ""))
        except aiohttp.ClientConnectorCertificateError as error:
            raise DeniedError(f"a certificate that does not hold: {error}"[:300]) from error
        except aiohttp.ClientConnectorError as error:
            raise _cause(error) from error
        except aiohttp.InvalidURL as error:
            raise RefusedError("bad_address", str(error)[:120]) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise TemporaryError(f"{type(error).__name__} from {host_of(url)}: {error}"[:300]) from error
        if following in seen:
            raise RefusedError("redirect_circle", f"{following[:120]} for the second time")
        seen.add(following)
        url = following
    raise RefusedError("too_many_redirects", f"{redirects} hops, then {url[:120]}")


def _check_status(response: aiohttp.ClientResponse) -> None:
    status = response.status
    if status in _AGAIN:
        raise TemporaryError(
            f"status {status} from {response.url.host}", retry_after(response.headers.get("Retry-After"))
        )
    if status in _ABSENT:
        raise AbsentError(f"status {status} from {response.url.host}")
    if status >= 400 and status != 416:
        raise DeniedError(f"status {status} from {response.url.host}")


def _cause(error: BaseException) -> Exception:
    """RefusedError where the resolver's check is what stopped a connection, else TemporaryError."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, RefusedError):
            return found
        found = found.__cause__ or found.__context__
    return TemporaryError(f"{type(error).__name__}: {error}"[:300])


def retry_after(header: str | None) -> float | None:
    """Seconds that a Retry-After header asks for, in either of its two forms.

    Example:
        >>> retry_after("120"), retry_after(None), retry_after("soon")
        (120.0, None, None)
    """
    if not header:
        return None
    if header.strip().isdigit():
        return float(header)
    try:
        when = parsedate_to_datetime(header)
    except ValueError:
        return None
    return max(0.0, (when.astimezone(UTC) - datetime.now(UTC)).total_seconds())


async def patiently(
    work: Callable[[], Awaitable[T]], how: Fetching, *, progress: Callable[[], int] = lambda: 0,
    on_wait: Callable[[str], None] = lambda _: None,
) -> T:  # fmt: skip
    """The result of `work`, tried again after each TemporaryError.

    Args:
        work: one try.
        how: attempts and waits.
        progress: a number that grows when something was gained; tries are counted from its last growth.
        on_wait: told, before each pause, what was met and how long the pause is.

    Raises:
        TemporaryError: the last one, when the tries are used up or the server asks for too long a pause.
    """
    best, used = progress(), 0
    met: list[TemporaryError] = []
    try:
        return await work()  # the first try without tenacity, which costs as much as the request of a small photo
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
        return used >= how.attempts or (_asked(state) or 0) > how.longest_wait_seconds

    def pause(state: tenacity.RetryCallState) -> float:
        base = min(how.first_wait_seconds * 2 ** (used - 1), how.longest_wait_seconds)
        jittered = random.uniform(base, 2 * base)
        return max(min(jittered, how.longest_wait_seconds), _asked(state) or 0)

    def tell(state: tenacity.RetryCallState) -> None:
        wait = state.next_action.sleep if state.next_action else 0
        on_wait(f"{_error(state)}; again in {wait:.1f} s")

    async for attempt in tenacity.AsyncRetrying(
        retry=tenacity.retry_if_exception_type(TemporaryError), stop=give_up, wait=pause, before_sleep=tell,
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
