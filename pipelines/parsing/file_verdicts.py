"""Judges each file of a dump after it was parsed and before any table is finished.

Reads the accounts of the files and their staged rows and rejects. Returns warnings, or raises one error that names
every file that is mostly lost: what was rejected and why, what the file looks like, and what helps.
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import polars as pl
import pyarrow.compute as pc

from features.errors import InputError
from features.runtime.datasets import Dataset
from pipelines.parsing import cleaning, remedies, staged_columns
from pipelines.parsing.amazon import ITEM_READERS, read_items
from pipelines.parsing.config import Params
from pipelines.parsing.line_accounts import Account, counted
from pipelines.parsing.line_blocks import blocks
from pipelines.parsing.parse_block import BLOCKS_PER_FILE
from pipelines.recognition.file_look import look

log = logging.getLogger("vip5")
HANDFUL = 10  # rejected lines that are accepted whatever their share, unless they are most of the file
ONE_VALUE_SHARE = 0.9
_LEAST_SAMPLED = 20
_NOTABLE_SHARE = 0.02
_LINES_TRIED = 200
_LONGEST_BYTES = 1 << 26
_NUM_REASONS = 3
_SHOWN = 100
_DAY_SECONDS = 86_400
_JANUARY_1970_SECONDS = 31 * _DAY_SECONDS
_LEAST_PLAUSIBLE = 788_918_400  # 1995
_REVIEW_COLUMNS = {
    "amazon2014": ("timestamp", "headline", "text"), "amazon2018": ("timestamp", "headline", "text"),
    "amazon2023": ("timestamp", "headline", "text"), "ratings": ("timestamp",), "recbole": ("timestamp",),
}  # fmt: skip
_ITEM_COLUMNS = ("title", "categories")


@dataclass(frozen=True, kw_only=True)
class Dump:
    """A parsed dump: its entry, the paths and accounts of its files, and the staging folders by kind of row."""

    name: str
    dataset: Dataset
    params: Params
    paths: Mapping[str, Path]
    accounts: Mapping[str, Account]
    staging: Mapping[str, Path]

    def parts(self, kind: str, source: str) -> list[Path]:
        """The staged parts of one file, in block order."""
        place = sorted(self.dataset.files).index(source)
        numbered = sorted((int(path.stem.removeprefix("part-")), path) for path in self.staging[kind].glob("part-*"))
        return [path for number, path in numbered if number // BLOCKS_PER_FILE == place]


def judge(dump: Dump) -> list[str]:
    """Logs and returns the warnings about the files, one text each.

    Raises:
        InputError: Too many lines of a file are rejected, nothing is left of it, it is cut short, its times have
            another unit, or it is another release's; all such files are named.
    """
    problems = list(_problems(dump))
    if problems:
        looks = {source: look(path) for source, path in dump.paths.items()}
        found = "; ".join(f"{one.text}; it looks like {looks[one.source].summary}" for one in problems)
        raise InputError(
            found, remedies.expected(dump.params), remedies.action(dump.name, dump.dataset, problems, looks)
        )
    warnings = [text for source in dump.accounts for text in _warnings(dump, source)]
    for text in warnings:
        log.warning("records: %s", text)
    return warnings


def _problems(dump: Dump) -> Iterable[remedies.Problem]:
    """The problem of each file that has one, and of a dump without reviews."""
    reviews = [source for source in dump.accounts if source not in dump.dataset.metadata]
    empty = not any(dump.accounts[source]["lines"] for source in reviews)
    for source, account in dump.accounts.items():
        if dump.params.max_rejected_share >= 1:
            continue
        if empty and source in reviews:
            yield remedies.Problem("empty", source, f"{source} without a line")
        elif account.get("rejected:truncated_file") and not dump.params.allow_truncated:
            text = f"{source} that is damaged or cut short after {account['lines'] - 1} whole lines"
            yield remedies.Problem("cut" if account["kept"] else "empty", source, text)
        elif (problem := _loss(dump, source)) is not None:
            yield problem
    for source, account in dump.accounts.items():
        if account["rows"]:
            found = _strange_items(dump, source) if source in dump.dataset.metadata else _strange_times(dump, source)
            if found is not None:
                yield found


def _loss(dump: Dump, source: str) -> remedies.Problem | None:
    """The problem of a file of which too much is rejected; repeated items are no loss."""
    account = dump.accounts[source]
    refused, lines = _refused(account), account["lines"]
    few = refused <= HANDFUL and refused * 2 <= lines
    if refused <= dump.params.max_rejected_share * lines or few:
        return None
    reasons = [reason for reason in counted(account, "rejected") if reason[0] != "duplicate_item"]
    commonest = sorted(reasons, key=lambda reason: (-reason[1], reason[0]))[:_NUM_REASONS]
    examples = _examples(dump.parts("rejects", source), [name for name, _ in commonest])
    told = ", ".join(f"{name} {count} (line {examples[name]})" for name, count in commonest)
    text = f"{source} with {refused} of {lines} lines rejected ({refused / lines:.1%}): {told}"
    most = commonest[0][0]
    outside = _ratings(dump.parts("rejects", source)) if most == "bad_rating" else ()
    longest = _longest(dump.paths[source]) if most == "line_too_long" else 0
    names = tuple(name for name, _ in commonest)
    return remedies.Problem("rejected", source, text, refused / lines, outside, longest, names)


def _longest(path: Path) -> int:
    """Bytes of the longest line of at most 64 MB, 0 if there is a longer one."""
    lengths = [(max(map(len, block.lines)), block.long) for block in blocks(path, _LINES_TRIED, _LONGEST_BYTES)]
    return 0 if any(long for _, long in lengths) else max(length for length, _ in lengths)


def _refused(account: Account) -> int:
    return account["rejected"] - account.get("rejected:duplicate_item", 0)


def _examples(parts: Sequence[Path], reasons: Sequence[str]) -> dict[str, str]:
    """The first line of each reason and its excerpt."""
    found: dict[str, str] = {}
    for path in parts:
        rejects = pl.read_parquet(path).sort("line").unique("reason", keep="first", maintain_order=True)
        for reason, line, excerpt in rejects.select("reason", "line", "excerpt").iter_rows():
            shown = excerpt or "an empty line" if len(excerpt) <= _SHOWN else f"{excerpt[:_SHOWN]}..."
            found.setdefault(reason, f"{line}: {shown}")
        if set(reasons) <= set(found):
            break
    return found


def _written_ratings(parts: Sequence[Path]) -> pl.Series:
    """The rejected ratings, null where one is not a number."""
    rejects = pl.concat([pl.read_parquet(path, columns=["reason", "excerpt"]) for path in parts])
    written = rejects.filter(pl.col("reason") == "bad_rating")["excerpt"]
    return written.str.extract(r": '?\s*(-?\d+(?:\.\d+)?)\s*'?$").cast(pl.Float64)


def _ratings(parts: Sequence[Path]) -> tuple[float, ...]:
    """The smallest and the largest rejected rating, if nearly all of them are numbers."""
    written = _written_ratings(parts)
    numbers = written.drop_nulls()
    if len(numbers) < ONE_VALUE_SHARE * len(written):
        return ()
    return tuple(float(str(value)) for value in (numbers.min(), numbers.max()))


def _strange_times(dump: Dump, source: str) -> remedies.Problem | None:
    """The problem of a file all of whose times lie in January 1970, as if in another unit."""
    latest = _latest_of_january_1970(dump, source)
    unit = None if latest is None else _suspected(latest)
    if unit is None or dump.dataset.time_unit == "seconds":
        return None
    text = f"{source} with every time in January 1970, the latest {_shown(latest or 0)}: they look like {unit}"
    return remedies.Problem("times", source, text)


def _latest_of_january_1970(dump: Dump, source: str) -> int | None:
    """The latest time of a review file, None if it lies after that month or there is none."""
    latest = staged_columns.latest(dump.parts("reviews", source), "timestamp")
    return latest if latest is not None and latest < _JANUARY_1970_SECONDS else None


def _suspected(latest: int) -> str | None:
    """The unit that the times of a file seem to have, if they were read as `latest` seconds at most."""
    if latest * 1000 >= _LEAST_PLAUSIBLE:
        return "seconds divided by 1000"
    if _LEAST_PLAUSIBLE <= latest * _DAY_SECONDS < cleaning.LATEST_SECONDS:
        return "days"
    return None


def _shown(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S}"


def _strange_items(dump: Dump, source: str) -> remedies.Problem | None:
    """The problem of a metadata file without titles and categories, or with an empty column in another release."""
    empty = [name for name in _columns(dump, source) if not _filling(dump, source, name).filled]
    if not empty:
        return None
    if not set(_ITEM_COLUMNS) <= set(empty) and not _other_release(dump, source, empty):
        return None
    text = f"{source} without {', '.join(empty)} in any of {dump.accounts[source]['rows']} rows"
    return remedies.Problem("columns", source, text)


def _other_release(dump: Dump, source: str, empty: Sequence[str]) -> bool:
    """Whether the metadata has the empty columns when it is read in the format that it looks like."""
    form = look(dump.paths[source]).format
    if form is None or form not in ITEM_READERS or form == dump.dataset.format:
        return False
    block = next(blocks(dump.paths[source], _LINES_TRIED, dump.params.max_line_bytes))
    rows = read_items(block, source, ITEM_READERS[form]).rows
    filled = {
        name: pc.list_value_length(rows[name]) if name == "categories" else pc.is_valid(rows[name]) for name in empty
    }
    return any(pc.sum(pc.cast(values, "int64")).as_py() for values in filled.values())


def _warnings(dump: Dump, source: str) -> Iterable[str]:
    refused, lines = _refused(dump.accounts[source]), dump.accounts[source]["lines"]
    if not lines:
        yield f"{source} is empty"
    if refused > max(HANDFUL, _NOTABLE_SHARE * lines):
        yield f"{source}: {refused} of {lines} lines rejected ({refused / lines:.1%})"
    if not dump.accounts[source]["rows"]:
        return
    if source not in dump.dataset.metadata and (latest := _latest_of_january_1970(dump, source)) is not None:
        yield f"{source}: every time lies in January 1970, the latest {_shown(latest)}; only their order is used"
    if text := _outside(dump, source):
        yield text
    for name in _columns(dump, source):
        one = _filling(dump, source, name)
        if not one.filled and name == "timestamp":
            yield (
                f"{source}: no times: the order of its lines counts as their order; if a column holds times, name it "
                f"in datasets.{dump.name}.columns.time"
            )
        elif not one.filled:
            yield f"{source}: {name} empty in all {one.rows} rows"
        elif one.sampled >= _LEAST_SAMPLED and one.share >= ONE_VALUE_SHARE:
            shown = one.commonest[:_SHOWN]
            yield f"{source}: {name} holds one value in {one.share:.0%} of {one.sampled} sampled rows: {shown!r}"


def _outside(dump: Dump, source: str) -> str | None:
    """The warning that ratings were rejected because of the dataset's range."""
    if not dump.accounts[source].get("rejected:bad_rating"):
        return None
    written = _written_ratings(dump.parts("rejects", source))
    numbers = written.drop_nulls()
    if numbers.is_empty():
        return None
    least, most = dump.dataset.rating_range
    wide = (min(least, *numbers), max(most, *numbers))
    return (
        f"{source}: {len(numbers):,} lines rejected for a rating outside [{least:g}, {most:g}]; to keep them, set "
        f"datasets.{dump.name}.rating_range: [{wide[0]:g}, {wide[1]:g}]"
    )


def _columns(dump: Dump, source: str) -> tuple[str, ...]:
    form = dump.dataset.format
    if source not in dump.dataset.metadata:
        return _REVIEW_COLUMNS.get(form, ())
    return (*_ITEM_COLUMNS, "image_url") if form.startswith("amazon") else _ITEM_COLUMNS


def _filling(dump: Dump, source: str, column: str) -> staged_columns.Filling:
    kind = "items" if source in dump.dataset.metadata else "reviews"
    return staged_columns.filling(dump.parts(kind, source), column, dump.accounts[source]["rows"])
