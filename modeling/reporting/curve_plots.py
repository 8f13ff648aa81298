"""Writes the SVG plots that `dvc plots show` and `dvc plots diff` display, with at most five named curves each.

Reads the curves of training and evaluation; writes `plots/<dataset>/*.svg` without scripts or links. Trade-off: DVC's
own templates load a plotting library from the network; static images do not, but `dvc plots diff` shows two revisions
side by side instead of in one plot.
"""

import csv
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from features.runtime.stage import Context
from features.store.durable import write_text
from modeling.reporting.html import COLOURS

FILES = ("loss.svg", "validation.svg", "next_item.svg", "candidates.svg")
MOST_CURVES = 5
_LABELS = {
    "VIP5": "VIP5", "without_photos": "VIP5 without photos", "sasrec": "SASRec", "ridge": "ridge regression",
    "item_knn": "item-kNN", "title_bm25": "BM25 of titles", "title_embedding": "features of titles",
    "photo_embedding": "features of photos", "popularity": "popularity", "recent_popularity": "recent popularity",
    "random": "random",
}  # fmt: skip
_STAGES = {"pretrain": "backbone (pretrain)", "train": "VIP5 (train)"}
_NOT_BASELINES = ("VIP5", "without_photos", "backbone", "random", "number_rule")
_WIDTH, _HEIGHT, _LEFT, _BOTTOM, _TOP = 640, 360, 64, 48, 40
_LEGEND_LINE = 20
Points = Sequence[tuple[float, float]]


def write_plots(context: Context) -> None:
    """Writes every file of `FILES`; a plot without curves says so."""
    training = {stage: read_rows(context.plots(f"{stage}.csv")) for stage in _STAGES}
    ranks = read_rows(context.plots("ranks.csv"))
    losses = {
        f"{label}, {split}": points_of(training[stage], "step", column)
        for stage, label in _STAGES.items()
        for split, column in (("training", "loss"), ("validation", "valid_loss"))
    }
    hits = {label: points_of(training[stage], "step", "valid_hr@10") for stage, label in _STAGES.items()}
    pictures = {
        "loss.svg": picture("Loss, nats per target token", losses, x_label="step"),
        "validation.svg": picture("HR@10 on the validation split", hits, x_label="step"),
        "next_item.svg": picture("Next item: HR@k on the test split", best(ranks, "sequential"), x_label="k"),
        "candidates.svg": picture("Among candidates: HR@k on the test split", best(ranks, "direct"), x_label="k"),
    }
    for name in FILES:
        path = context.plots(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, pictures[name])


def read_rows(path: Path) -> list[dict[str, str]]:
    """Reads the rows of a CSV; empty if the stage wrote no curve (a backbone that was not trained)."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def points_of(rows: Sequence[Mapping[str, str]], x: str, y: str) -> list[tuple[float, float]]:
    """Returns (x, y) of the rows in which both were measured.

    Example:
        >>> points_of([{"step": "20", "loss": "6.5"}, {"step": "40", "loss": ""}], "step", "loss")
        [(20.0, 6.5)]
    """
    return [(float(row[x]), float(row[y])) for row in rows if row.get(x) and row.get(y)]


def best(rows: Sequence[Mapping[str, str]], family: str) -> dict[str, Points]:
    """Returns the curves of VIP5, VIP5 without photos, the two baselines with the highest HR@10, and random.

    VIP5 is shown with the first prompt that was also evaluated without photos, otherwise with the first prompt.
    """
    family_rows = [row for row in rows if row["family"] == family]
    prompts = [row["prompt_id"] for row in family_rows if _model(row) == "without_photos"] + [
        row["prompt_id"] for row in family_rows
    ]
    curves = {
        model: points_of([row for row in family_rows if _model(row) == model and row["prompt_id"] in {prompt, "any"}],
                         "k", "hit_rate")
        for prompt in prompts[:1] for model in dict.fromkeys(map(_model, family_rows))
    }  # fmt: skip
    baselines = sorted(
        (model for model in curves if model not in _NOT_BASELINES),
        key=lambda model: -dict(curves[model]).get(10.0, 0.0),
    )
    shown = ("VIP5", "without_photos", *baselines[:2], "random")
    return {_LABELS.get(model, model): curves[model] for model in shown if curves.get(model)}


def _model(row: Mapping[str, str]) -> str:
    return row["model"].partition(" (")[0]  # "VIP5 (leaking run)"


def picture(title: str, curves: Mapping[str, Points], *, x_label: str) -> str:
    """Returns an SVG document of named curves through (x, y) points, with the legend below the plot.

    Raises:
        ValueError: there are more than `MOST_CURVES` curves.
    """
    if len(curves) > MOST_CURVES:
        raise ValueError(f"{len(curves)} curves in {title!r}; at most {MOST_CURVES} are distinguishable")
    drawn = {name: points for name, points in curves.items() if points}
    height = _HEIGHT + _LEGEND_LINE * len(drawn)
    parts = [f'<text x="12" y="24" font-size="16">{escape(title)}</text>']
    parts += _frame(drawn, x_label) if drawn else ['<text x="12" y="64">no data</text>']
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}" viewBox="0 0 {_WIDTH} {height}" '
        f'font-family="sans-serif" font-size="13" fill="#222"><rect width="100%" height="100%" fill="#fff"/>\n'
        + "\n".join(parts) + "\n</svg>\n"
    )  # fmt: skip


def _frame(curves: Mapping[str, Points], x_label: str) -> list[str]:
    points = [point for line in curves.values() for point in line]
    low_x, high_x = min(x for x, _ in points), max(x for x, _ in points)
    low_y, high_y = min(0.0, *(y for _, y in points)), max(y for _, y in points)

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - low_x) / ((high_x - low_x) or 1.0) * (_WIDTH - _LEFT - 16)
        up = (y - low_y) / ((high_y - low_y) or 1.0) * (_HEIGHT - _BOTTOM - _TOP)
        return round(_LEFT + across, 1), round(_HEIGHT - _BOTTOM - up, 1)

    parts = []
    for step in range(5):
        value = low_y + (high_y - low_y) * step / 4
        y = place(low_x, value)[1]
        parts.append(f'<line x1="{_LEFT}" x2="{_WIDTH - 16}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{value:.3g}</text>')
    for value, anchor in {low_x: "start", high_x: "end"}.items():
        parts.append(f'<text x="{place(value, low_y)[0]}" y="{_HEIGHT - 26}" text-anchor="{anchor}">{value:g}</text>')
    parts.append(f'<text x="{_WIDTH / 2}" y="{_HEIGHT - 26}" text-anchor="middle">{escape(x_label)}</text>')
    for index, (name, line) in enumerate(curves.items()):
        colour, y = COLOURS[index], _HEIGHT + _LEGEND_LINE * index
        placed = [place(*point) for point in line]
        path = " ".join(f"{x},{y}" for x, y in placed)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        parts += [f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>' for x, y in placed[-1:]]
        parts.append(f'<rect x="{_LEFT}" y="{y - 10}" width="22" height="4" fill="{colour}"/>')
        parts.append(f'<text x="{_LEFT + 30}" y="{y - 4}">{escape(name)} ({line[-1][1]:.3g})</text>')
    return parts
