"""Renders the parts of the model page as HTML and SVG with all text escaped.

Reads rows, curves and gallery entries; returns one self-contained document without scripts, fonts or links. A part is a
string marked as safe by Jinja; any other string in a page is escaped.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from features.runtime.html_pages import templates

if TYPE_CHECKING:
    import jinja2

COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#8e5ea2", "#b8860b", "#5f6b73", "#d81b60", "#00897b")
MOST_PHOTO_BYTES = 100 * 1024
"""A larger photo is replaced by its size: photos are embedded unscaled, and a page holds about a hundred."""
_MAGIC = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png"}
_WIDTH, _HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 520, 260, 72, 12, 12, 32
_LEVELS = 5


@dataclass(frozen=True, kw_only=True)
class Picture:
    """A photo as base64 of media type `kind`, or the words that stand `instead` of it."""

    kind: str | None = None
    data: str | None = None
    instead: str = "no photo"


@dataclass(frozen=True, kw_only=True)
class Item:
    """An item in the gallery."""

    label: str
    photo: bytes | None

    @property
    def picture(self) -> Picture:
        """The photo, if it is a JPEG or PNG of at most `MOST_PHOTO_BYTES`."""
        photo = self.photo or b""
        kind = next((name for magic, name in _MAGIC.items() if photo.startswith(magic)), None)
        if kind is None:
            return Picture()
        if len(photo) > MOST_PHOTO_BYTES:
            return Picture(instead=f"photo of {len(photo) // 1024:,} kB")
        return Picture(kind=kind, data=base64.b64encode(photo).decode("ascii"))


@dataclass(frozen=True, kw_only=True)
class Card:
    """One user in the gallery."""

    user: str
    history: Sequence[Item]
    target: Item
    rank: int
    """Rank of the held-out item; 0 if it is not in the list."""
    top: Sequence[tuple[str, float, bool]]
    """(label, log-probability, is the held-out item), best first."""
    explanations: Sequence[tuple[str, str, str]]
    """(prompt, generated, reference)."""


@cache
def _pages() -> "jinja2.Environment":
    return templates(Path(__file__).parent / "pages")


def page(title: str, parts: Sequence[str]) -> str:
    """Returns the complete HTML document."""
    return _pages().get_template("page.html").render(title=title, parts=parts)


def part(name: str, **values: Any) -> str:
    """Returns the part of a page that the macro `name` of `pages/parts.html` renders from `values`."""
    rendered: str = getattr(_pages().get_template("parts.html").module, name)(**values)
    return rendered


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, highlight: str, cited: Sequence[Sequence[str]] = ()
) -> str:
    """Returns a horizontally scrollable table; rows starting with `highlight` are marked, `cited` rows come last."""
    return part("table", header=header, rows=rows, highlight=highlight, cited=cited)


def line_chart(title: str, series: Mapping[str, Sequence[tuple[float, float]]], *, x_label: str) -> str:
    """Returns an inline SVG of lines through (x, y) points, with a legend; empty without points."""
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    low_x, high_x = min(p[0] for p in points), max(p[0] for p in points)
    low_y, high_y = min(0.0, *(p[1] for p in points)), max(p[1] for p in points)
    span_x, span_y = (high_x - low_x) or 1.0, (high_y - low_y) or 1.0

    def place(x: float, y: float) -> tuple[str, str]:
        across = _LEFT + (x - low_x) / span_x * (_WIDTH - _LEFT - _RIGHT)
        down = _HEIGHT - _BOTTOM - (y - low_y) / span_y * (_HEIGHT - _BOTTOM - _TOP)
        return f"{across:.1f}", f"{down:.1f}"

    levels = [low_y + span_y * step / (_LEVELS - 1) for step in range(_LEVELS)]
    lines = [
        {"name": name, "colour": COLOURS[index % len(COLOURS)], "places": [place(*point) for point in line]}
        for index, (name, line) in enumerate(series.items())
    ]
    chart = {
        "title": title, "x_label": x_label, "width": _WIDTH, "height": _HEIGHT, "left": _LEFT,
        "right": _WIDTH - _RIGHT, "lines": lines,
        "levels": [(place(low_x, value)[1], f"{value:.2g}") for value in levels],
        "ends": [
            (place(value, low_y)[0], anchor, f"{value:g}")
            for value, anchor in {low_x: "start", high_x: "end"}.items()
        ],
    }  # fmt: skip
    return part("line_chart", chart=chart)


def cards(entries: Sequence[Card]) -> str:
    """Returns the gallery of users: history with photos, held-out item, top list, explanations."""
    return part("cards", entries=entries)


def recommendation(
    *, user: str, prompt: str, history: Sequence[Item], num_shown: int, top: Sequence[tuple[Item, float]]
) -> str:
    """Returns the recommendations to one user: the history, oldest first, and the best items with log-probabilities."""
    return part("recommendation", user=user, prompt=prompt, history=history, num_shown=num_shown, top=top)
