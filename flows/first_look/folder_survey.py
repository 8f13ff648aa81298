"""What the files of a folder are: the look of each, and the entry of `datasets` that reads those that belong together.

Reads the beginning of every file of a folder and of its subfolders of photos. Returns an `Entry` with the reason for
every file that it leaves aside.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from features.errors import InputError
from flows.first_look import counts
from pipelines.parsing import table_columns
from pipelines.recognition import tables
from pipelines.recognition.column_names import plain
from pipelines.recognition.file_look import Look, look

_ITEMS_READ_BY = {
    "amazon2014": ("amazon2014",),
    "amazon2018": ("amazon2018",),
    "amazon2023": ("amazon2023",),
    "ratings": ("ratings", "amazon2014", "amazon2018", "amazon2023"),
    "recbole": ("recbole",),
    "sequences": (),
    "openp5": ("openp5",),
    "p5": ("p5", "amazon2014"),
}
_YEARS = {"amazon2014", "amazon2018"}
"""Formats that read each other's reviews; the metadata decides."""


@dataclass(frozen=True)
class Seen:
    """A file or folder: its name, its size in bytes (0 for a folder) and its look."""

    name: str
    bytes: int
    look: Look


@dataclass(kw_only=True)
class Entry:
    """The values of an entry of `datasets`, the files that belong to it, and those left aside with the reason."""

    values: dict[str, Any]
    used: list[Seen]
    aside: list[tuple[Seen, str]] = field(default_factory=list)

    @property
    def format(self) -> str:
        """The format of the files."""
        return str(self.values["format"])


def survey(folder: Path) -> list[Seen]:
    """The look of every file and subfolder of `folder` that is not hidden, by name.

    Raises:
        InputError: There is no such folder, or nothing in it.
    """
    if folder.is_file():
        raise InputError(f"--from {folder}, a file", "the folder that holds it", f"use --from {folder.parent}")
    if not folder.is_dir():
        raise InputError(f"no folder {folder}", "the folder that holds your files", "check --from")
    paths = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    if not paths:
        raise InputError(f"nothing in {folder}", "the folder that holds your files", "check --from")
    return [Seen(path.name, path.stat().st_size if path.is_file() else 0, look(path)) for path in paths]


def entry_of(folder: Path, seen: Sequence[Seen], photos: str | None = None) -> Entry:
    """The entry of `datasets` that reads the files.

    Args:
        folder: Where they are, for messages.
        seen: Every file with its look.
        photos: The name of the folder or archive of photos, None to choose it.

    Raises:
        InputError: No file holds reviews, ratings or sequences; the message says what was seen.
    """
    read = [one for one in seen if one.look.kind == "reviews" and one.look.format]
    if not read:
        raise InputError(_what(seen, folder), "a file of reviews, ratings or sequences", _where_instead(folder, seen))
    form = _chosen_format(read, seen)
    entry = Entry(values={"format": form}, used=[])
    serving = [one for one in read if _serves(one, form)]
    _take_reviews(entry, serving or [one for one in read if one.look.format in _YEARS])
    maps = [one for one in seen if one.look.kind == "maps"]
    if form == "p5":
        _take_maps(entry, maps)
    _take_items(entry, [one for one in seen if one.look.kind == "items"])
    if form == "ratings" and (columns := _columns(entry.used)):
        entry.values["columns"] = columns
    _take_beside(entry, seen, photos, folder)
    taken = {one.name for one in entry.used} | {one.name for one, _ in entry.aside}
    entry.aside += [(one, _reason(one, form)) for one in seen if one.name not in taken]
    return entry


def _chosen_format(read: Iterable[Seen], seen: Sequence[Seen]) -> str:
    """The format with items of its own, then that with most bytes; numbers with maps are P5's."""
    sizes: dict[str, int] = {}
    for one in read:
        sizes[str(one.look.format)] = sizes.get(str(one.look.format), 0) + one.bytes
    items = {one.look.format for one in seen if one.look.kind == "items"}
    form = max(sizes, key=lambda name: (bool(items & set(_ITEMS_READ_BY[name])), sizes[name]))
    has_maps = any(one.look.kind == "maps" and one.look.columns for one in seen)
    if form in {"p5", "sequences"}:
        return "p5" if has_maps else "sequences"
    return next(iter(_YEARS & items), form) if form in _YEARS - items else form


def _serves(one: Seen, form: str) -> bool:
    return one.look.format == form or {one.look.format, form} <= {"p5", "sequences"}


def _take_reviews(entry: Entry, read: Sequence[Seen]) -> None:
    """Takes all files of one format and the same columns, but one of those whose names say that they hold the same."""
    largest = sorted(read, key=lambda one: ("rating" not in tables.roles(one.look.columns), -one.bytes, one.name))
    stems: dict[str, str] = {}
    names: list[str] = []
    for one in largest:
        other = stems.setdefault(_stem(one.name), one.name)
        if other != one.name:
            entry.aside.append((one, f"by its name a part or copy of {other}"))
        elif entry.format in counts.RATED and one.look.columns != largest[0].look.columns:
            entry.aside.append((one, f"other columns than {largest[0].name}"))
        elif names and entry.format in {"p5", "sequences", "openp5"}:
            entry.aside.append((one, f"one file of sequences is read, {names[0]}"))
        else:
            names.append(one.name)
            entry.used.append(one)
    entry.values["reviews"] = sorted(names)


def _take_maps(entry: Entry, maps: Sequence[Seen]) -> None:
    numbers = next(one for one in maps if one.look.columns)
    pickles = [one for one in maps if not one.look.columns]
    entry.values["reviews"] += [numbers.name, *(one.name for one in pickles)]
    entry.used += [numbers, *pickles]


def _take_items(entry: Entry, items: Sequence[Seen]) -> None:
    wanted = _ITEMS_READ_BY[entry.format]
    best = next((form for form in wanted if any(one.look.format == form for one in items)), None)
    chosen = sorted((one for one in items if one.look.format == best), key=lambda one: (-one.bytes, one.name))
    stems: dict[str, str] = {}
    names: list[str] = []
    for one in chosen:
        other = stems.setdefault(_stem(one.name), one.name)
        if other == one.name:
            names.append(one.name)
            entry.used.append(one)
        else:
            entry.aside.append((one, f"by its name a copy of {other}"))
    entry.values["metadata"] = sorted(names)


def _columns(used: Sequence[Seen]) -> dict[str, str]:
    """Meaning to the name of each column whose meaning is plain but which `records` does not know by its name."""
    found: dict[str, str] = {}
    for one in used:
        kind: table_columns.Kind = "items" if one.look.kind == "items" else "reviews"
        known = table_columns.NAMES[kind]
        for meaning, name in tables.roles(one.look.columns).items():
            if meaning in known and plain(name) not in known[meaning]:
                found.setdefault(meaning, name)
    return found


def _take_beside(entry: Entry, seen: Sequence[Seen], photos: str | None, folder: Path) -> None:
    """Takes photos, their keys, vectors and theirs."""
    found = [one for one in seen if one.look.kind == "photos"]
    if photos is not None:
        found = [one for one in seen if one.name == photos.rstrip("/")]
        if not found:
            raise InputError(
                f"--photos {photos}, which is not in {folder}", "a folder or archive beside the files", "move it there"
            )
    folders = [one for one in found if one.bytes == 0]
    if folders:
        entry.values["photos"] = folders[0].name
        entry.used.append(folders[0])
    elif found:
        archives = [one for one in found if one.name.endswith(".tar")]
        alone = len(archives) == len(found) == 1
        entry.values["photos"] = archives[0].name.removesuffix(".tar") if alone else "."
        entry.used += found
    if entry.values.get("photos"):
        _take_first(entry, "photo_keys", [one for one in seen if one.look.kind == "photo_keys"])
    _take_vectors(entry, seen)


def without_items(entry: Entry) -> None:
    """Leaves the item metadata aside."""
    entry.used = [one for one in entry.used if one.name not in entry.values["metadata"]]
    entry.values["metadata"] = []


def without_photos(entry: Entry) -> None:
    """Leaves out photos that belong to no item."""
    for key in ("photos", "photo_keys"):
        entry.values.pop(key, None)


def _take_vectors(entry: Entry, seen: Sequence[Seen]) -> None:
    vectors = [one for one in seen if one.look.kind == "vectors"]
    keys = [one for one in seen if one.look.kind == "vector_keys"]
    whole = [one for one in vectors if one.bytes == 0 or one.name.endswith(".b")]
    matrices = [one for one in vectors if "matrix" in one.look.summary]
    if whole:
        _take_first(entry, "vectors", whole)
    elif matrices and keys:
        named = [one for one in matrices if any(word in one.name.lower() for word in ("image", "img", "vis", "photo"))]
        _take_first(entry, "vectors", named or matrices)
        _take_first(entry, "vector_keys", sorted(keys, key=lambda one: not one.look.columns))


def _take_first(entry: Entry, key: str, found: Sequence[Seen]) -> None:
    if found:
        entry.values[key] = found[0].name
        entry.used.append(found[0])


def _stem(name: str) -> str:
    """The part of a name that copies and 5-cores of one file share."""
    stem = name.lower()
    for suffix in (".gz", ".zip", ".json", ".jsonl", ".csv", ".parquet", ".tsv", "_5"):
        stem = stem.removesuffix(suffix)
    return stem


def _reason(one: Seen, form: str) -> str:
    """Why a file that no rule took is left aside."""
    if one.look.summary.endswith("; unpack it"):
        return "unpack it into a folder of its own here to use it"
    if one.look.kind is None and "without a header" in one.look.summary:
        return "columns without names; a first line such as item_id, title, categories would make them items"
    matrix = "matrix" in one.look.summary
    reasons = {
        "reviews": f"another format than {form}",
        "items": f"items of format {one.look.format}, which format {form} does not read",
        "maps": f"format {form} needs no maps",
        "photos": "other photos are used",
        "photo_keys": "there are no photos",
        "vectors": "a matrix needs a file of its rows' item keys" if matrix else "other vectors are used",
        "vector_keys": "there is no matrix of vectors",
    }
    return reasons.get(one.look.kind or "", "nothing that a dataset reads")


def _what(seen: Sequence[Seen], folder: Path) -> str:
    looks = [f"{one.name} looks like {one.look.summary}" for one in seen[:6]]
    more = f"; and {len(seen) - 6} more" if len(seen) > 6 else ""
    return f"no reviews, ratings or sequences in {folder} ({'; '.join(looks)}{more})"


def _where_instead(folder: Path, seen: Sequence[Seen]) -> str:
    """The remedy: the subfolder that holds what is missing, if one does."""
    for one in seen:
        inner = folder / one.name
        if inner.is_dir() and any(look(path).kind == "reviews" for path in sorted(inner.iterdir())[:20]):
            return f"use --from {inner}"
        if one.look.summary.endswith("; unpack it"):
            return f"unpack {one.name} into a folder of its own and use --from with that folder"
        if one.look.kind is None and len(one.look.columns) >= 2 and "table" in one.look.summary:
            return f"name the columns of {one.name} user_id, item_id, rating and timestamp in its first line"
        if one.look.kind is None and "without a header" in one.look.summary:
            return f"write a first line with the names of its columns into {one.name}, such as user_id, item_id, rating"
        if "that do not begin with a user each" in one.look.summary:
            return (
                f"write the items of a user in one line of {one.name} (user item item ...), or put commas between the "
                "cells and a first line such as user_id,item_id"
            )
    return "put one there in a layout of docs/guides/own-data.md, or check --from"
