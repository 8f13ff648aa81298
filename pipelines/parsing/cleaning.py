"""Cleaning rules for the texts, lists, prices, counts and times of a dump.

Each function takes a value as JSON or a literal gave it and returns the value of the column, or None.
Unreadable values become null; the reader rejects a row that requires the value.

Texts lose their markup (`markup.unmarked`: scripts and style sheets with their content, tags, whole or cut off,
entities, placeholders). Then Unicode is composed (NFC); runs of white space, including line breaks, become one space;
control characters, lone surrogates and byte-order marks are dropped; the ends are stripped; empty texts become null.
A cleaned text is cleaned to itself. Keys retain tags and entities.
"""

import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping

from pipelines.parsing.markup import normalized, unmarked, without_first_tag

Rule = Callable[[object], str | None]

_PROGRAM = re.compile(
    r"\bnew Date\(\)|\bgetTime\(\)|\bfunction\s*+\(|\bP\.when\(|\bwindow\.\w+\s*+[=(.]|\bdocument\.\w+\(|"
    r"(?:^|[;{}])\s*+var\s++\w++\s*+=|\{\s*+[\w-]++\s*+:[^{};]*+[;}]"
)
_PRICE = re.compile(r"\$?\s*(\d{1,3}(?:,\d{3})+|\d+)(\.\d+)?")
_COUNT = re.compile(r"(\d{1,3}(?:,\d{3}){1,3}|\d{1,10})(?:\.0{1,9})?", re.ASCII)
_LARGEST_INT32 = 2**31 - 1
_LARGEST_FLOAT32 = 3.4e38
LATEST_SECONDS = 2**33  # the year 2242: larger values are milliseconds or invalid


def text(value: object) -> str | None:
    r"""The cleaned text, or None if nothing is left.

    Example:
        >>> text(" Salt &amp; pepper,\n12&#34;\x00 "), text("<b>New</b><br />one &lt;3"), text("5 < 6")
        ('Salt & pepper, 12"', 'New one <3', '5 < 6')
    """
    return normalized(unmarked(value)) or None if isinstance(value, str) else None


def key(value: object) -> str | None:
    """A key of the dump in NFC, without control characters and outer spaces; None if nothing is left.

    Example:
        >>> key(" ../B00&amp;1 "), key(17)
        ('../B00&amp;1', None)
    """
    return normalized(value) or None if isinstance(value, str) else None


def title(value: object) -> str | None:
    """A product title, also without a tag that the scraping cut at its start; None for a piece of a script.

    Example:
        >>> title("<span>Kettle</span>"), title("var aPageStart = (new Date()).getTime();")
        ('Kettle', None)
    """
    cleaned = text(value)
    while cleaned is not None and (shorter := text(without_first_tag(cleaned))) != cleaned:
        cleaned = shorter
    return None if cleaned is None or _PROGRAM.search(cleaned) else cleaned


def choices(value: object) -> str | None:
    """The chosen variant as one text.

    Example:
        >>> choices({"Size:": " Large", "Color:": " Sea &amp; sky"})
        'Size: Large; Color: Sea & sky'
    """
    if not isinstance(value, Mapping):
        return None
    named = [(text(name), text(choice)) for name, choice in value.items()]
    return "; ".join(f"{name.rstrip(':')}: {choice}" for name, choice in named if name and choice) or None


def joined(value: object) -> str | None:
    """The cleaned text of a text or of a list of texts, joined by a space.

    Example:
        >>> joined(["First line.", "", "Second line."])
        'First line. Second line.'
    """
    parts = [text(part) for part in value] if isinstance(value, list) else [text(value)]
    return " ".join(part for part in parts if part) or None


def path(value: object) -> list[str]:
    """A category path from the widest to the narrowest, without duplicates; the first of several paths.

    Example:
        >>> path([["Music", "Strings", "Music"], ["Gifts"]])
        ['Music', 'Strings']
    """
    if not isinstance(value, list):
        return []
    first = next((entry for entry in value if entry), None)
    names = first if isinstance(first, list) else value
    return list(dict.fromkeys(name for entry in names if isinstance(entry, str) and (name := _name(entry))))


@functools.lru_cache(maxsize=1 << 16)
def _name(value: str) -> str | None:
    """`text` of a category name, cached because there are few."""
    return text(value)


def price(value: object) -> float | None:
    """A price in dollars; None for a range, another text or a negative number.

    Example:
        >>> price("$1,299.00"), price(7.09), price("$5.00 - $9.00")
        (1299.0, 7.09, None)
    """
    if isinstance(value, str):
        match = _PRICE.fullmatch(value.strip())
        value = float(match[0].lstrip("$ ").replace(",", "")) if match else None
    number = rating(value)
    return number if number is not None and 0 <= number <= _LARGEST_FLOAT32 else None


def rating(value: object) -> float | None:
    """A number as a float, None for anything else (including texts and booleans); the reader checks the range."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def count(value: object) -> int | None:
    """A count, also from a text such as "1,234" and from a whole float; None if the value is not a count.

    Example:
        >>> count("1,234"), count(7), count(3.0), count(-1)
        (1234, 7, 3, None)
    """
    if isinstance(value, str):
        match = _COUNT.fullmatch(value.strip())
        value = int(match[1].replace(",", "")) if match else None
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST_INT32:
        return None
    return value


def seconds(value: object, *, unit: int = 1) -> int | None:
    """Unix seconds from an integer number of 1/`unit` seconds; None before 1970 and after 2242.

    Example:
        >>> seconds(1588687728923, unit=1000)
        1588687728
    """
    number = rating(value)
    if number is None or not math.isfinite(number) or number != math.floor(number):
        return None
    whole = int(number) // unit
    return whole if 0 <= whole < LATEST_SECONDS else None


def excerpt(line: bytes | str) -> str:
    """The beginning of a line, at most 200 characters, as one printable line."""
    if not line:
        return ""
    shown = line[:800].decode("utf-8", errors="replace") if isinstance(line, bytes) else line[:200]
    return "".join(letter if letter.isprintable() else " " for letter in shown)[:200]


def first_address(candidates: Iterable[object]) -> str | None:
    """The first of the given texts or lists of texts that is an http address."""
    for candidate in candidates:
        for value in candidate if isinstance(candidate, list) else (candidate,):
            if isinstance(value, str) and value.strip().startswith(("http://", "https://")):
                return key(value)
    return None
