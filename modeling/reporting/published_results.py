"""Figures that others have printed for the same split, to stand beside ours.

Enters: `published.yaml`, written by hand, and the numbers of users and items of a dataset. Leaves: `Figure`s.
Trade-off: a split is recognised by its two counts and not by a name, so that figures of another split can never stand
beside a dataset that happens to be called the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from features.errors import ParamsError
from features.runtime.params import build, load_yaml

FIGURES = Path(__file__).with_name("published.yaml")


@dataclass(frozen=True, kw_only=True)
class Split:
    """How a public split is recognised."""

    num_users: int
    num_items: int


@dataclass(frozen=True, kw_only=True)
class Figure:
    """What one model was reported to reach in one family of tasks."""

    model: str
    family: Literal["sequential", "direct", "explanation"]
    source: str
    """Key of the file's `sources`."""
    leaks: Literal["yes", "no", "unknown"]
    """Whether what the model is given tells it the answer."""
    columns: tuple[str, ...]
    """Metrics, in the order of the values."""
    values: dict[str, tuple[float, ...]]
    """By split, one number a column."""

    def of(self, split: str) -> dict[str, float]:
        """Metric to value on one split; empty where none was reported.

        Example:
            columns ("hr@10",) and values {"toys": (0.0712,)} give of("toys") = {"hr@10": 0.0712}.
        """
        values = self.values.get(split, ())
        return dict(zip(self.columns, values, strict=True)) if values else {}


@dataclass(frozen=True, kw_only=True)
class Published:
    """The whole file."""

    splits: dict[str, Split]
    sources: dict[str, str]
    figures: tuple[Figure, ...]

    def split_of(self, num_users: int, num_items: int) -> str | None:
        """The public split with these counts, or None.

        Example:
            (19412, 11924) -> "toys"
        """
        counts = Split(num_users=num_users, num_items=num_items)
        return next((name for name, split in self.splits.items() if split == counts), None)


def load_published(path: Path = FIGURES) -> Published:
    """The figures of a file, checked.

    Raises:
        ParamsError: a key is unknown, a figure names no source or split of the file, or has too few numbers.
    """
    published = build(Published, load_yaml(path), where=path.name)
    for figure in published.figures:
        where = f"{figure.model} ({figure.family}) in {path.name}"
        if figure.source not in published.sources:
            raise ParamsError(f"source {figure.source!r} of {where}", "a key of `sources`", "add it")
        for split, values in figure.values.items():
            if split not in published.splits or len(values) != len(figure.columns):
                raise ParamsError(
                    f"{len(values)} numbers for {split} of {where}",
                    f"{len(figure.columns)} for a split among {', '.join(published.splits)}", "mend the file",
                )  # fmt: skip
    return published


def rows(published: Published, split: str, family: str, columns: Sequence[str]) -> list[list[str]]:
    """A row a figure of `split`: model, whether it leaks, each column's value or "-".

    Example:
        toys, sequential, ("hr@10",) -> [["VIP5 A-3", "yes", "0.0749"], ...]
    """
    digits = 2 if family == "explanation" else 4
    found = []
    for figure in published.figures:
        values: Mapping[str, Any] = figure.of(split) if figure.family == family else {}
        if values:
            cells = [f"{values[name]:.{digits}f}" if name in values else "-" for name in columns]
            found.append([figure.model, figure.leaks, *cells])
    return found


def sources(published: Published, split: str) -> list[str]:
    """What the figures of `split` are cited from, each once, in the order of the file."""
    cited = [published.sources[figure.source] for figure in published.figures if figure.of(split)]
    return list(dict.fromkeys(cited))
