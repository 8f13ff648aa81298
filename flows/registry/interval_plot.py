"""Plots the gate's metric of VIP5 and the baselines with 95 % confidence intervals.

Reads `evaluate.json` and returns an SVG as a data URL, which Prefect's page shows without a web server. Plain SVG
avoids a dependency on a plotting library.
"""

import base64
import html
import json
from collections.abc import Mapping
from typing import Any

from features.runtime.stage import Places
from flows.registry.quality_gate import GateParams

_ROW, _LEFT, _WIDTH = 26, 190, 420


def interval_plot(places: Places, params: GateParams) -> str | None:
    """Returns the plot as `data:image/svg+xml;base64,...`, or None if the metrics file has no such metric."""
    path = places.metrics("evaluate.json")
    if not path.is_file():
        return None
    results = json.loads(path.read_text(encoding="utf-8"))
    family, metric = params.family, params.metric
    blocks = {f"VIP5 {key}": block for key, block in results.get(family, {}).items()}
    blocks |= results.get("baselines", {}).get(family, {})
    rows = {name: block for name, block in blocks.items() if metric in block}
    if not rows:
        return None
    svg = _svg(rows, metric, title=f"{places.dataset}: {family} {metric}")
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()


def _svg(rows: Mapping[str, Mapping[str, Any]], metric: str, *, title: str) -> str:
    ends = {name: block.get("ci95", {}).get(metric, [block[metric]] * 2) for name, block in rows.items()}
    scale = _WIDTH / (max(high for _, high in ends.values()) or 1.0)
    height = _ROW * (len(rows) + 2)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 80}" height="{height}" font-size="13">',
        '<rect width="100%" height="100%" fill="white"/><g font-family="sans-serif">',
        f'<text x="10" y="18" font-weight="bold">{html.escape(title)}, 95 % intervals</text>',
    ]
    for number, (name, block) in enumerate(rows.items(), start=1):
        y = _ROW * number + 18
        low, high = (_LEFT + scale * float(end) for end in ends[name])
        colour = "#0b61a4" if name.startswith("VIP5") else "#777777"
        parts += [
            f'<text x="10" y="{y}">{html.escape(name)}</text>',
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" stroke-width="3"/>',
            f'<circle cx="{_LEFT + scale * block[metric]:.1f}" cy="{y - 4}" r="4" fill="{colour}"/>',
            f'<text x="{high + 8:.1f}" y="{y}">{block[metric]:.4f}</text>',
        ]
    return "".join([*parts, "</g></svg>"])
