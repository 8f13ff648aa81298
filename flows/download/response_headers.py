"""Headers of a response, read without trusting them: a value that cannot be parsed counts as absent.

Returns validators, Retry-After and Content-Range as plain values, and redirect targets as ASCII URLs.
"""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from urllib.parse import quote, urljoin

_VALIDATOR = re.compile(r"[ -~]{1,500}")
_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})")
_SECONDS = re.compile(r"[0-9]+")
_MAX_SECONDS = 1e9
_ASCII = "".join(map(chr, range(0x21, 0x7F)))


def validator(headers: Mapping[str, str], name: str) -> str | None:
    r"""The ETag or Last-Modified of a response; None unless it is printable ASCII, which can be sent back unchanged.

    Example:
        >>> validator({"ETag": '"1"'}, "ETag"), validator({"ETag": '"\u2028"'}, "ETag"), validator({}, "ETag")
        ('"1"', None, None)
    """
    value = headers.get(name)
    return value if value is not None and _VALIDATOR.fullmatch(value) else None


def content_range(headers: Mapping[str, str]) -> tuple[int, int] | None:
    """First byte and complete size in a Content-Range header; None if it is absent or invalid.

    Example:
        >>> content_range({"Content-Range": "bytes 5-9/10"}), content_range({"Content-Range": "bytes 5-²/9"})
        ((5, 10), None)
    """
    found = _RANGE.fullmatch(headers.get("Content-Range", ""))
    if found is None:
        return None
    first, last, size = (int(group) for group in found.groups())
    return (first, size) if first <= last < size else None


def retry_after(header: str | None) -> float | None:
    """Seconds in a Retry-After header, given as a number or as a date; None if it is absent or invalid.

    Example:
        >>> retry_after("120"), retry_after(None), retry_after("soon"), retry_after("²")
        (120.0, None, None, None)
    """
    if not header:
        return None
    if _SECONDS.fullmatch(header.strip()):
        return min(float(header), _MAX_SECONDS)
    try:
        when = parsedate_to_datetime(header)
        when = when.astimezone(UTC) if when.tzinfo else when.replace(tzinfo=UTC)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return max(0.0, (when - datetime.now(UTC)).total_seconds())


def redirect_target(url: str, location: str) -> str:
    """The absolute URL of a redirect, with every byte outside ASCII percent-encoded.

    Raises:
        ValueError: `location` cannot be parsed.

    Example:
        >>> redirect_target("https://a.example/x", "/é")
        'https://a.example/%C3%A9'
    """
    return urljoin(url, quote(location.encode("utf-8", "surrogateescape"), safe=_ASCII))
