"""Renders the parts of the model page as HTML and SVG strings with all text escaped.

Reads rows, curves and gallery entries; returns one self-contained document without scripts, fonts or links.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from string import Template

COLOURS = ("#1b6ca8", "#c8553d", "#3a7d44", "#8e5ea2", "#b8860b", "#5f6b73", "#d81b60", "#00897b")
MOST_PHOTO_BYTES = 100 * 1024
"""A larger photo is replaced by its size: photos are embedded unscaled, and a page holds about a hundred."""
_MAGIC = {b"\xff\xd8\xff": "image/jpeg", b"\x89PNG": "image/png"}

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title><style>
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --good: #2e7d32; --weak: #b26a00; --bad: #c62828; }
body { background: Canvas; color: CanvasText; font: 16px/1.45 system-ui, sans-serif; margin: 0 auto;
  max-width: 62rem; overflow-wrap: anywhere;  padding: 0 1rem 3rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2.2rem; } h3 { font-size: 1rem; margin: 0 0 .4rem; }
.scroll { overflow-x: auto; } table { border-collapse: collapse; font-size: .88rem; width: 100%; }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .5rem; text-align: left; white-space: nowrap; }
th:first-child, td:first-child { background: Canvas; left: 0; min-width: 8.5rem; position: sticky;
  white-space: normal; }
tr.own { font-weight: 600; background: var(--soft); } tr.cited { font-style: italic; opacity: .85; }
small, .note { opacity: .75; font-weight: 400; }
.flag { border-radius: .3rem; color: #fff; padding: .1rem .5rem; } .flag.good { background: var(--good); }
.flag.weak { background: var(--weak); } .flag.bad { background: var(--bad); }
ul.verdict { list-style: none; padding: 0; } ul.verdict li { border-left: .35rem solid; margin: .4rem 0;
  padding: .1rem .7rem; } ul.verdict li.good { border-color: var(--good); }
ul.verdict li.weak { border-color: var(--weak); } ul.verdict li.bad { border-color: var(--bad); }
figure { margin: 0 0 1.2rem; max-width: 40rem; } svg { width: 100%; height: auto; }
.key { display: inline-block; margin-right: .7rem; }
@media (max-width: 40rem) { svg text { font-size: 19px; } }
.cards { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(min(20rem, 100%), 1fr)); }
.card { border: 1px solid var(--line); border-radius: .6rem; min-width: 0; padding: .8rem; }
.photos { display: flex; flex-wrap: wrap; gap: .35rem; } .item { font-size: .68rem; line-height: 1.2; width: 4.2rem; }
.item img, .item .none { aspect-ratio: 1; border-radius: .3rem; display: block; object-fit: cover; width: 100%; }
.item.wide { width: auto; }
.item .none { background: var(--soft); display: grid; place-items: center; }
.item span { display: -webkit-box; -webkit-box-orient: vertical; -webkit-line-clamp: 3; overflow: hidden; }
ol.top { font-size: 1rem; list-style: none; padding: 0; }
ol.top li { align-items: center; border-bottom: 1px solid var(--line); display: grid; gap: .7rem; padding: .4rem 0;
  grid-template-columns: 1.6rem 3.4rem 1fr auto; }
ol { font-size: .82rem; margin: .3rem 0; padding-left: 1.6rem; } li.hit { color: var(--good); font-weight: 700; }
.score { float: right; opacity: .7; }
blockquote { margin: .3rem 0; font-size: .85rem; }
</style></head><body>
<h1>$title</h1>
$body
</body></html>
""")


@dataclass(frozen=True, kw_only=True)
class Item:
    """An item in the gallery."""

    label: str
    photo: bytes | None


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


def page(title: str, parts: Sequence[str]) -> str:
    """Returns the complete HTML document."""
    return PAGE.substitute(title=escape(title), body="\n".join(parts))


def table(
    header: Sequence[str], rows: Sequence[Sequence[str]], *, highlight: str, cited: Sequence[Sequence[str]] = ()
) -> str:
    """Returns a horizontally scrollable table; rows starting with `highlight` are marked, `cited` rows come last."""
    head = "".join(f"<th>{escape(name)}</th>" for name in header)
    lines = []
    for row in rows:
        mark = ' class="own"' if row[0].startswith(highlight) else ""
        lines.append(f"<tr{mark}>" + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>")
    if cited:
        lines.append(f'<tr class="cited"><td colspan="{len(header)}"><b>published figures for this split</b></td></tr>')
    lines += ['<tr class="cited">' + "".join(f"<td>{_cell(cell)}</td>" for cell in row) + "</tr>" for row in cited]
    return f'<div class="scroll"><table><tr>{head}</tr>{"".join(lines)}</table></div>'


def _cell(text: str) -> str:
    """Sets the interval in brackets in small type.

    Example: "0.1 [0.0, 0.2]" -> "0.1 <small>[0.0, 0.2]</small>"
    """
    value, bracket, rest = text.partition(" [")
    return escape(value) + (f" <small>[{escape(rest)}</small>" if bracket else "")


def line_chart(title: str, series: Mapping[str, Sequence[tuple[float, float]]], *, x_label: str) -> str:
    """Returns an inline SVG of lines through (x, y) points, with a legend; empty without points."""
    points = [point for line in series.values() for point in line]
    if not points:
        return ""
    width, height, left, bottom = 520, 260, 72, 32
    low_x, high_x = min(p[0] for p in points), max(p[0] for p in points)
    low_y, high_y = min(0.0, *(p[1] for p in points)), max(p[1] for p in points)
    span_x, span_y = (high_x - low_x) or 1.0, (high_y - low_y) or 1.0

    def place(x: float, y: float) -> str:
        across = left + (x - low_x) / span_x * (width - left - 12)
        return f"{across:.1f},{height - bottom - (y - low_y) / span_y * (height - bottom - 12):.1f}"

    shapes = []
    for step in range(5):
        value = low_y + span_y * step / 4
        y = place(low_x, value).split(",")[1]
        shapes.append(f'<line x1="{left}" x2="{width - 12}" y1="{y}" y2="{y}" stroke="#8885"/>')
        shapes.append(f'<text x="{left - 6}" y="{y}" text-anchor="end" dominant-baseline="middle">{value:.2g}</text>')
    for value, anchor in {low_x: "start", high_x: "end"}.items():
        x = place(value, low_y).split(",")[0]
        shapes.append(f'<text x="{x}" y="{height - 10}" text-anchor="{anchor}">{value:g}</text>')
    shapes.append(f'<text x="{width / 2}" y="{height - 10}" text-anchor="middle">{escape(x_label)}</text>')
    legend = []
    for index, (name, line) in enumerate(series.items()):
        colour = COLOURS[index % len(COLOURS)]
        path = " ".join(place(*point) for point in line)
        if len(line) == 1:
            x, y = path.split(",")
            shapes.append(f'<circle cx="{x}" cy="{y}" r="4" fill="{colour}"/>')
        shapes.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        square = f'<span style="color:{colour}">\N{BLACK SQUARE}</span>'
        legend.append(f'<span class="key">{square} {escape(name)}</span>')
    return (
        f'<figure><h3>{escape(title)}</h3><svg viewBox="0 0 {width} {height}" font-size="13" fill="currentColor" '
        f'role="img" aria-label="{escape(title)}">{"".join(shapes)}</svg>'
        f"<figcaption><small>{''.join(legend)}</small></figcaption></figure>"
    )


def card(entry: Card) -> str:
    """Returns the card of one user: history with photos, held-out item, top list, explanations."""
    where = f"rank {entry.rank}" if entry.rank else f"not among the first {len(entry.top)}"
    top = "".join(_place(label, score, hit) for label, score, hit in entry.top)
    spoken = "".join(
        f"<blockquote><b>{escape(prompt)}</b> {escape(generated) or '(nothing)'}"
        f"<br><small>the user wrote: {escape(reference)}</small></blockquote>"
        for prompt, generated, reference in entry.explanations
    )
    return (
        f'<section class="card"><h3>{escape(entry.user)}</h3><small>history, oldest first</small>'
        f'<div class="photos">{"".join(_item(item) for item in entry.history)}</div>'
        f'<small>held out: {where}</small><div class="photos">{_item(entry.target)}</div>'
        f"<small>top of the ranking, log-probability</small><ol>{top}</ol>{spoken}</section>"
    )


def recommendation(
    *, user: str, prompt: str, history: Sequence[Item], num_shown: int, top: Sequence[tuple[Item, float]]
) -> list[str]:
    """Returns the recommendations to one user: the history, oldest first, and the best items with log-probabilities."""
    ranked = "".join(
        f'<li><b>{rank}</b><div class="item wide">{_picture(item)}</div><span>{escape(item.label)}</span>'
        f'<span class="score">{score:.3f}</span></li>'
        for rank, (item, score) in enumerate(top, start=1)
    )
    known = f"{len(history)} items, oldest first; the prompt shows {num_shown} of them."
    return [
        f"<p>{escape(user)}</p>",
        f'<h2>History</h2><p class="note">{known}</p>',
        f'<div class="photos">{"".join(_item(item) for item in history)}</div>',
        '<h2>Recommended</h2><p class="note">Best first, with the log-probability of the item (nats).</p>',
        f'<ol class="top">{ranked}</ol>',
        f'<p class="note">Prompt: <code>{escape(prompt)}</code></p>',
    ]


def _place(label: str, score: float, hit: bool) -> str:
    mark, tick = (' class="hit"', " \N{CHECK MARK}") if hit else ("", "")
    return f'<li{mark}><span class="score">{score:.2f}</span>{escape(label)}{tick}</li>'


def _item(item: Item) -> str:
    return f'<div class="item">{_picture(item)}<span>{escape(item.label)}</span></div>'


def _picture(item: Item) -> str:
    kind = next((name for magic, name in _MAGIC.items() if item.photo and item.photo.startswith(magic)), None)
    if kind is None or item.photo is None:
        return '<div class="none">no photo</div>'
    if len(item.photo) > MOST_PHOTO_BYTES:
        return f'<div class="none">photo of {len(item.photo) // 1024:,} kB</div>'
    data = base64.b64encode(item.photo).decode("ascii")
    return f'<img loading="lazy" alt="" src="data:{kind};base64,{data}">'
