"""Allowed hosts for downloads, and protection against names that resolve to private addresses (SSRF).

`HostPolicy.check` raises `RefusedError` for a URL that is not allowed; `CheckedResolver` is a resolver for aiohttp.

Trade-off: the check is the connector's resolver and therefore sees the addresses that are connected to, which rules
out DNS rebinding. Proxies resolve names themselves, so none is used.
"""

import asyncio
import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import SplitResult, urlsplit

from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.resolver import ThreadedResolver

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address
_UNICAST = ipaddress.IPv6Network("2000::/3")
_SIX_TO_FOUR = ipaddress.IPv6Network("2002::/16")
_EMBEDDED = tuple(map(ipaddress.IPv6Network, ("::ffff:0:0/96", "::/96", "64:ff9b::/96")))
_PORTS = {"http": 80, "https": 443}
_ORIGIN = re.compile(r"https?://[^/]+(?=/)")  # decides scheme and host, whatever follows


class RefusedError(Exception):
    """A request that the host policy or a limit forbids.

    Args:
        reason: one of a closed set, such as `host_not_allowed`.
        detail: the offending value.
    """

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason} ({detail})")


@dataclass(frozen=True, kw_only=True)
class HostPolicy:
    """The hosts that may be contacted."""

    allowed: tuple[str, ...]
    """Host names. A leading dot matches every subdomain: `.example.org`."""
    private: tuple[str, ...] = ()
    """Host names, or `name:port`, that may resolve to private or loopback addresses and use other ports."""
    _passed: set[str] = field(default_factory=set, init=False, repr=False, compare=False)
    """Origins that passed the check, so that each is parsed once."""

    def check(self, url: str) -> None:
        """Raises RefusedError unless `url` is an HTTP(S) URL of an allowed host at the default port.

        Example:
            >>> HostPolicy(allowed=(".example.org",)).check("https://cdn.example.org/a.jpg")
        """
        origin = _ORIGIN.match(url)
        if origin and origin[0] in self._passed:
            return
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise RefusedError("bad_address", f"{url[:120]}: {error}") from error
        host = _host_in(parts)
        if parts.scheme not in _PORTS or not host:
            raise RefusedError("bad_address", url[:120])
        if parts.username is not None or parts.password is not None:
            raise RefusedError("bad_address", f"a URL with a user name, at {host}")
        if not self._is_private(host, port) and not any(_matches(host, name) for name in self.allowed):
            raise RefusedError("host_not_allowed", host)
        if port not in {None, _PORTS[parts.scheme]} and not self._is_private(host, port):
            raise RefusedError("port_not_allowed", f"{host}:{port}")
        if _literal(host) is not None:  # aiohttp connects to IP literals without calling the resolver
            self.check_address(host, port, host)
        if origin:
            self._passed.add(origin[0])

    def check_address(self, host: str, port: int | None, address: str) -> None:
        """Raises RefusedError if `host` resolves to a non-public `address` and is not listed in `private`."""
        number = _literal(address)
        if number is not None and not _is_public(number) and not self._is_private(host, port):
            raise RefusedError("private_address", f"{host} is {address}")

    def _is_private(self, host: str, port: int | None) -> bool:
        return host in self.private or f"{host}:{port}" in self.private


class CheckedResolver(AbstractResolver):
    """Wraps aiohttp's resolver and checks every resolved address before a connection is made."""

    def __init__(self, policy: HostPolicy, inner: AbstractResolver | None = None) -> None:
        self._policy = policy
        self._inner = inner or ThreadedResolver(asyncio.get_running_loop())

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Resolves `host`; raises RefusedError if any address is not allowed."""
        found: Sequence[ResolveResult] = await self._inner.resolve(host, port, family)
        for one in found:
            self._policy.check_address(host.lower().rstrip("."), port, one["host"])
        return list(found)

    async def close(self) -> None:
        """Closes the wrapped resolver."""
        await self._inner.close()


def host_of(url: str) -> str:
    """The normalised host of `url`, as `HostPolicy.check` sees it; "" if there is none.

    Example:
        >>> host_of("https://CDN.example.org./a.jpg")
        'cdn.example.org'
    """
    origin = _ORIGIN.match(url)
    return _host_of(origin[0] if origin else url)


@lru_cache(maxsize=1024)
def _host_of(origin: str) -> str:
    try:
        return _host_in(urlsplit(origin))
    except ValueError:
        return ""


def _host_in(parts: SplitResult) -> str:
    return (parts.hostname or "").rstrip(".")


def _matches(host: str, name: str) -> bool:
    return host.endswith(name) if name.startswith(".") else host == name


def _literal(host: str) -> _Address | None:
    """The IP address that `host` spells out; None for a name."""
    try:
        return ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return None


def _is_public(number: _Address) -> bool:
    """Whether an address is a public unicast one, by the IPv4 address that it embeds if there is one."""
    plain = _unmapped(number)
    if isinstance(plain, ipaddress.IPv6Address) and plain not in _UNICAST:
        return False
    return plain.is_global and not plain.is_multicast


def _unmapped(number: _Address) -> _Address:
    """The IPv4 address in an IPv4-mapped, IPv4-compatible, NAT64 or 6to4 address; other addresses unchanged."""
    if isinstance(number, ipaddress.IPv4Address):
        return number
    if number in _SIX_TO_FOUR:
        return ipaddress.IPv4Address(number.packed[2:6])
    if any(number in network for network in _EMBEDDED):
        return ipaddress.IPv4Address(number.packed[12:])
    return number
