import asyncio
import socket

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult

from flows.download.host_policy import CheckedResolver, HostPolicy, RefusedError, host_of

POLICY = HostPolicy(allowed=("img.example.org", ".cdn.example.org", "93.184.216.34"), private=("mirror", "box:8080"))


@pytest.mark.parametrize(
    "url",
    [
        "https://img.example.org/a.jpg",
        "http://IMG.example.org./a.jpg",
        "https://x.cdn.example.org/a.jpg",
        "http://93.184.216.34/a.jpg",
        "http://mirror/a.jpg",
        "http://mirror:9000/a.jpg",
        "http://box:8080/a.jpg",
    ],
)
def test_allowed_addresses(url: str) -> None:
    POLICY.check(url)


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("ftp://img.example.org/a", "bad_address"),
        ("file:///etc/passwd", "bad_address"),
        ("//img.example.org/a", "bad_address"),
        ("http://[::1/a", "bad_address"),
        ("http://img.example.org:99999/", "bad_address"),
        ("http://me:secret@img.example.org/", "bad_address"),
        ("http://cdn.example.org/a", "host_not_allowed"),
        ("http://evil-img.example.org/a", "host_not_allowed"),
        ("http://img.example.org.evil.org/a", "host_not_allowed"),
        ("http://127.0.0.1/a", "host_not_allowed"),
        ("http://img.example.org:22/", "port_not_allowed"),
        ("http://box/a", "host_not_allowed"),
    ],
)
def test_addresses_that_are_not_allowed(url: str, reason: str) -> None:
    with pytest.raises(RefusedError) as caught:
        POLICY.check(url)
    assert caught.value.reason == reason
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "number", ["127.0.0.1", "10.1.2.3", "192.168.0.1", "169.254.169.254", "[::1]", "[fe80::1]",
               "[::ffff:127.0.0.1]", "100.64.0.1", "[64:ff9b::a9fe:a9fe]", "[2002:7f00:1::]", "[::127.0.0.1]", "[::]",
               "224.0.0.1", "[ff0e::1]", "[fec0::1]", "[::ffff:224.0.0.1]", "[64:ff9b:1::1]", "[2001:0:1::]",
               "255.255.255.255", "240.0.0.1", "[4000::1]", "[2002:a00:1::1]", "[64:ff9b::10.0.0.1]"],
)  # fmt: skip
def test_a_private_ip_is_refused_even_if_the_host_is_allowed(number: str) -> None:
    with pytest.raises(RefusedError, match="private_address"):
        HostPolicy(allowed=(number.strip("[]"),)).check(f"http://{number}/a")


@pytest.mark.parametrize("number", ["8.8.8.8", "[2606:4700::1]", "[64:ff9b::8.8.8.8]", "[2002:808:808::1]"])
def test_a_public_ip_is_allowed(number: str) -> None:
    HostPolicy(allowed=(number.strip("[]"),)).check(f"http://{number}/a")


class Answers(AbstractResolver):
    def __init__(self, *addresses: str) -> None:
        self.addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host=address, port=port, family=family, proto=0, flags=0)
            for address in self.addresses
        ]

    async def close(self) -> None:
        pass


@pytest.mark.parametrize("addresses", [("127.0.0.1",), ("93.184.216.34", "10.0.0.1"), ("::1",)])
def test_a_host_that_resolves_to_a_private_address_is_refused(addresses: tuple[str, ...]) -> None:
    resolver = CheckedResolver(POLICY, Answers(*addresses))
    with pytest.raises(RefusedError, match="private_address"):
        asyncio.run(resolver.resolve("img.example.org", 443))


def test_listed_private_and_public_hosts_are_resolved() -> None:
    assert asyncio.run(CheckedResolver(POLICY, Answers("10.0.0.1")).resolve("mirror", 80))[0]["host"] == "10.0.0.1"
    public = CheckedResolver(POLICY, Answers("93.184.216.34"))
    assert asyncio.run(public.resolve("img.example.org", 443))[0]["host"] == "93.184.216.34"


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("https://img.example.org@evil.example/a.jpg", "bad_address"),
        ("https://img.example.org:8443/a.jpg", "port_not_allowed"),
        ("http://img.example.org.evil.example/a.jpg", "host_not_allowed"),
        ("https://evil.example#https://img.example.org/a.jpg", "host_not_allowed"),
        ("ftp://img.example.org/a.jpg", "bad_address"),
    ],
)
def test_a_passed_origin_admits_no_other_host(url: str, reason: str) -> None:
    policy = HostPolicy(allowed=("img.example.org",))
    for scheme in ("http", "https"):
        policy.check(f"{scheme}://img.example.org/a.jpg")
    with pytest.raises(RefusedError) as refused:
        policy.check(url)
    assert refused.value.reason == reason


def test_the_host_is_read_as_the_check_reads_it() -> None:
    urls = (
        "https://CDN.example.org/a/b.jpg", "https://cdn.example.org./a.jpg", "https://cdn.example.org?x=1/2",
        "https://[::1/a.jpg", "no address",
    )  # fmt: skip
    assert [host_of(url) for url in urls] == ["cdn.example.org", "cdn.example.org", "cdn.example.org", "", ""]
