"""Loads published figures for the same split, for comparison on the model page.

Reads `published.yaml`, which is edited by hand, and the numbers of users and items of a dataset; returns `Figure`s. A
split is identified by these two counts instead of its name, so a dataset with the same name but another split gets no
published figures.
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
    """The counts that identify a public split."""

    num_users: int
    num_items: int


@dataclass(frozen=True, kw_only=True)
class Figure:
    """Published metrics of one model on one prompt family."""

    model: str
    family: Literal["sequential", "direct", "explanation"]
    source: str
    """Key in `sources`."""
    leaks: Literal["yes", "no", "unknown"]
    """Whether the input of the model leaks the target."""
    columns: tuple[str, ...]
    """Metrics, in the order of the values."""
    values: dict[str, tuple[float, ...]]
    """By split, one number per column."""

    def of(self, split: str) -> dict[str, float]:
        """Returns metric to value on one split; empty if none was published.

        Example:
            columns ("hr@10",) and values {"toys": (0.0712,)} give of("toys") = {"hr@10": 0.0712}.
        """
        values = self.values.get(split, ())
        return dict(zip(self.columns, values, strict=True)) if values else {}


@dataclass(frozen=True, kw_only=True)
class Published:
    """The content of `published.yaml`."""

    splits: dict[str, Split]
    sources: dict[str, str]
    figures: tuple[Figure, ...]

    def split_of(self, num_users: int, num_items: int) -> str | None:
        """Returns the public split with these counts, or None.

        Example:
            (19412, 11924) -> "toys"
        """
        counts = Split(num_users=num_users, num_items=num_items)
        return next((name for name, split in self.splits.items() if split == counts), None)


def load_published(path: Path = FIGURES) -> Published:
    """Reads and validates the published figures.

    Raises:
        ParamsError: a key is unknown, or a figure has an unknown source, an unknown split or a wrong number of values.
    """
    published = build(Published, load_yaml(path), where=path.name)
    for figure in published.figures:
        where = f"{figure.model} ({figure.family}) in {path.name}"
        if figure.source not in published.sources:
            raise ParamsError(f"source {figure.source!r} of {where}", "a key of `sources`", "add it to `sources`")
        for split, values in figure.values.items():
            if split not in published.splits or len(values) != len(figure.columns):
                raise ParamsError(
                    f"{len(values)} numbers for {split} of {where}",
                    f"{len(figure.columns)} for a split among {', '.join(published.splits)}", "correct the file",
                )  # fmt: skip
    return published


def rows(published: Published, split: str, family: str, columns: Sequence[str]) -> list[list[str]]:
    """Returns one row per figure of `split`: model, whether it leaks, the value of each column or "-".

    Example:
        toys, sequential, ("hr@10",) -> [["VIP5 A-3", "yes", "0.0749"], ...]
    """
    digits = 2 if family == "explanation" else 4
    table_rows = []
    for figure in published.figures:
        values: Mapping[str, Any] = figure.of(split) if figure.family == family else {}
        if values:
            cells = [f"{values[name]:.{digits}f}" if name in values else "-" for name in columns]
            table_rows.append([figure.model, figure.leaks, *cells])
    return table_rows


def sources(published: Published, split: str) -> list[str]:
    """Returns the distinct sources of the figures of `split`, in file order."""
    cited = [published.sources[figure.source] for figure in published.figures if figure.of(split)]
    return list(dict.fromkeys(cited))
