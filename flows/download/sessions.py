"""HTTP sessions for downloads: names resolved through the host policy, and bounded response heads.

Opens an aiohttp session that keeps no cookies and no proxy, and closes a connection whose server sends interim
responses (100 Continue, 103 Early Hints) without end.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

from flows.download.host_policy import CheckedResolver, HostPolicy
from flows.download.http_client import IngestParams

AGENT = "vip5/0.1"
MAX_INTERIM = 8
_MAX_HEADERS = 100


@asynccontextmanager
async def open_session(
    config: IngestParams, policy: HostPolicy, connections: int
) -> AsyncIterator[aiohttp.ClientSession]:
    """Opens a session that resolves names through the host policy, keeps no cookies and follows no redirects."""
    connector = _Connector(
        resolver=CheckedResolver(policy), limit=connections, limit_per_host=connections, ttl_dns_cache=300
    )
    timeout = aiohttp.ClientTimeout(
        total=None, connect=None, sock_connect=config.connect_timeout_seconds, sock_read=config.read_timeout_seconds
    )
    async with aiohttp.ClientSession(
        connector=connector, timeout=timeout, cookie_jar=aiohttp.DummyCookieJar(), auto_decompress=False,
        headers={"User-Agent": AGENT, "Accept-Encoding": "identity"}, max_headers=_MAX_HEADERS,
    ) as session:  # fmt: skip
        yield session


class _Connector(aiohttp.TCPConnector):
    """A connector whose connections bound the interim responses, which aiohttp reads without end."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._factory: Any = partial(_BoundedHandler, loop=asyncio.get_running_loop())


class _BoundedHandler(ResponseHandler):
    """Closes the connection after more than MAX_INTERIM interim responses in a row."""

    _interim = 0

    def feed_data(self, data: Any, size: int = 0) -> None:
        """Queues a response, or an error in place of one interim response too many."""
        interim = 100 <= data[0].code < 200 and data[0].code != 101
        self._interim = self._interim + 1 if interim else 0
        if self._interim <= MAX_INTERIM:
            super().feed_data(data, size)
        elif self._exception is None:
            self.close()  # first: it clears the exception
            self.set_exception(aiohttp.ClientPayloadError(f"more than {MAX_INTERIM} interim responses"))
