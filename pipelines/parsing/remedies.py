"""What helps where a file of a dump is mostly lost: another format, unit, range, list or limit.

Reads the problems of the files and what the files look like. Returns the texts of one error.
Trade-off: only remedies are named that make `records` accept the file; others ("check the file") come last.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from features.runtime.datasets import Dataset
from pipelines.parsing.config import Params
from pipelines.recognition.file_look import Look

_SAME_REVIEWS = {"amazon2014", "amazon2018"}
_AMAZON = {"amazon2014", "amazon2018", "amazon2023"}
_FORMATS_OF_ITEMS = {
    "p5": {"p5", "amazon2014"}, "ratings": {"ratings", *_AMAZON}, "recbole": {"recbole", "ratings", *_AMAZON},
    "sequences": {"ratings", *_AMAZON}, "openp5": {"openp5", "ratings", *_AMAZON},
}  # fmt: skip


@dataclass(frozen=True)
class Problem:
    """A file that must not go on: the kind of its problem, the text that says so, and its share of rejected lines.

    `ratings` are the smallest and the largest rejected rating, where that is why lines were rejected; `longest` is the
    number of bytes of the longest line, where lines were too long; `reasons` are the commonest reasons.
    """

    kind: Literal["rejected", "empty", "cut", "times", "columns"]
    source: str
    text: str
    share: float = 0.0
    ratings: tuple[float, ...] = ()
    longest: int = 0
    reasons: tuple[str, ...] = ()


def expected(params: Params) -> str:
    """What the files should be."""
    return f"complete files in the declared format, with at most {params.max_rejected_share:.0%} of the lines rejected"


def action(name: str, dataset: Dataset, problems: Sequence[Problem], looks: Mapping[str, Look]) -> str:
    """What to change, as the last part of the error.

    Args:
        name: Name of the dataset.
        dataset: Its entry.
        problems: All problems, at least one.
        looks: What each file of the dump looks like.
    """
    entry = f"datasets.{name}"
    if swapped := _swapped(dataset, problems, looks):
        return swapped.replace("datasets.", f"{entry}.")
    if form := _format(dataset, problems, looks):
        return f"set {entry}.format: {form}{_others(entry, dataset, form, looks)}"
    steps = dict.fromkeys(
        step for problem in problems for step in _steps(entry, dataset, problem, looks[problem.source])
    )
    shares = [problem.share for problem in problems if problem.kind == "rejected"]
    if shares and max(shares) < 1:
        steps[f"or accept the loss with records.max_rejected_share: {_ceiled(max(shares)):g}"] = None
    return ", ".join(steps)


def _format(dataset: Dataset, problems: Sequence[Problem], looks: Mapping[str, Look]) -> str | None:
    """Another format than the declared one that a file with a problem has and that reads all reviews."""
    for source in (*dataset.reviews, *dataset.metadata):
        form = looks[source].format
        troubled = any(problem.source == source and problem.kind in ("rejected", "columns") for problem in problems)
        if not troubled or form is None or reads(dataset, dataset.format, source, form):
            continue
        if all(reads(dataset, form, name, looks[name].format) for name in dataset.reviews):
            return form
    return None


def _others(entry: str, dataset: Dataset, form: str, looks: Mapping[str, Look]) -> str:
    """What to do with the metadata files that `form` does not read."""
    strange = [name for name in dataset.metadata if not reads(dataset, form, name, looks[name].format)]
    return "".join(f" and take {name} ({looks[name].summary}) out of {entry}.metadata" for name in strange)


def reads(dataset: Dataset, form: str, source: str, own: str | None) -> bool:
    """Whether the format `form` reads a file of the format `own`; unknown files count as readable."""
    if own is None:
        return True
    if source in dataset.metadata:
        return own in _FORMATS_OF_ITEMS.get(form, {form})
    return own == form or {own, form} <= _SAME_REVIEWS


def _swapped(dataset: Dataset, problems: Sequence[Problem], looks: Mapping[str, Look]) -> str | None:
    """The remedy for a file in the wrong list."""
    for problem in problems:
        kind = looks[problem.source].kind
        if problem.source in dataset.reviews and kind == "items":
            return f"list {problem.source} under datasets.metadata, not under datasets.reviews"
        if problem.source in dataset.metadata and kind == "reviews":
            return f"list {problem.source} under datasets.reviews, not under datasets.metadata"
    return None


def _steps(entry: str, dataset: Dataset, problem: Problem, look: Look) -> Iterable[str]:
    ingest = f"`.venv/bin/python -m flows.ingest {entry.removeprefix('datasets.')} --from FOLDER`"
    if problem.kind == "times" and dataset.time_unit == "milliseconds":
        yield f"set {entry}.time_unit: seconds"
    elif problem.kind == "times":
        yield f"write the times as Unix seconds, or set {entry}.time_unit: seconds to use only their order"
    elif problem.kind == "cut":
        yield f"bring in the whole file ({ingest})"
        yield "or accept what is left with records.allow_truncated: true"
    elif problem.ratings:
        least, most = problem.ratings
        low, high = min(least, dataset.rating_range[0]), max(most, dataset.rating_range[1])
        yield f"set {entry}.rating_range: [{low:g}, {high:g}]"
    elif problem.longest:
        yield f"set records.max_line_bytes: {problem.longest}"
    elif problem.source in dataset.metadata:
        yield f"replace {problem.source} or take it out of {entry}.metadata"
    elif problem.reasons[:1] == ("bad_time",):
        yield f"write its times as Unix seconds or as dates such as 2014-05-13 and bring it in again ({ingest})"
    elif problem.reasons[:1] == ("bad_rating",):
        yield f"write its ratings as numbers such as 4.5 and bring it in again ({ingest})"
    elif problem.reasons[:1] == ("missing_rating",) and dataset.format in ("ratings", "recbole"):
        yield f"leave the column of ratings out of {problem.source} if it has none and bring it in again ({ingest})"
    elif "not_utf8" in problem.reasons and look.kind is not None:
        yield f"write {problem.source} in UTF-8 and bring it in again ({ingest})"
    else:
        yield f"bring in a file of the format {dataset.format} as {problem.source} ({ingest})"


def _ceiled(share: float) -> float:
    """The smallest number of two digits after the point that is not below the share."""
    return min(1.0, math.ceil(share * 100) / 100)
