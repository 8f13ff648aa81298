"""Recognises delimited tables: ratings, MovieLens, RecBole, Amazon exports, items, maps of photos or rows to keys.

Reads the first lines of a text. Trade-off: the delimiter is the one that cuts most lines into the same number of cells.
"""

import csv
import re
from collections import Counter

from pipelines.recognition.column_names import MEANINGS, bare
from pipelines.recognition.looks import IMAGE_SUFFIXES, Look, nothing, some

_DELIMITERS = ("\t", "::", ",", ";", "|")
_WORDS = {"\t": "a tab-separated table", ",": "a CSV table"}
_RECBOLE = re.compile(r"[^:]+:(token|token_seq|float|float_seq)")
_NUMBER = re.compile(r"[+-]?\d{1,18}(\.\d*)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_ROWS = 200
_MOST_LETTERS = 1 << 18
_TEXTS = {"reviewtext", "text", "summary", "helpful"}


def roles(header: tuple[str, ...]) -> dict[str, str]:
    """Meaning (user, item, rating, time, title, categories, brand) to the name of the first column with it."""
    found: dict[str, str] = {}
    for name in header:
        word = bare(name.strip("\ufeff"))
        meaning = next((meaning for meaning, names in MEANINGS.items() if word in names), None)
        if meaning is not None:
            found.setdefault(meaning, name)
    return found


def rows_of(text: str) -> tuple[str, list[list[str]]] | None:
    """(delimiter, first rows of equal length) of a table, None if the text is none."""
    text = text[:_MOST_LETTERS].lstrip("\ufeff")
    whole = text if len(text) < _MOST_LETTERS else text[: text.rfind("\n") + 1]
    lines = [line for line in whole.splitlines()[: _ROWS * 2] if line.strip()]
    best: tuple[int, str, list[list[str]]] | None = None
    for delimiter in _DELIMITERS:
        if not lines or delimiter not in lines[0]:
            continue
        rows = _parsed(lines, delimiter)
        width = Counter(map(len, rows)).most_common(1)[0][0] if rows else 1
        alike = sum(len(row) == width for row in rows)
        if width > 1 and alike >= 0.8 * len(rows) and len(rows[0]) == width and (best is None or alike > best[0]):
            best = (alike, delimiter, [row for row in rows if len(row) == width][:_ROWS])
    return best[1:] if best else None


def _parsed(lines: list[str], delimiter: str) -> list[list[str]]:
    if len(delimiter) > 1:
        return [line.split(delimiter) for line in lines[:_ROWS]]
    try:
        return list(csv.reader((f"{line}\n" for line in lines), delimiter=delimiter))[:_ROWS]
    except csv.Error:  # a cell beyond the limit, or a null character
        return []


def look_at_table(text: str, inside: str, name: str) -> Look | None:
    """The look of a delimited table, None if the text is none."""
    found = rows_of(text)
    if found is None:
        return None
    delimiter, rows = found
    header = tuple(cell.strip().strip("\ufeff") for cell in rows[0])
    words = _WORDS.get(delimiter, f"a table separated by {delimiter}") + inside
    if all(_RECBOLE.fullmatch(cell) for cell in header):
        return recbole(header, inside)
    if any(_NUMBER.fullmatch(cell) for cell in header) or _same_kinds(rows):
        return _headless(rows, words)
    return with_header(header, words, rows[1:], name)


def recbole(header: tuple[str, ...], inside: str) -> Look:
    """The look of an atomic file of RecBole."""
    names = {cell.split(":")[0] for cell in header}
    known = roles(tuple(names))
    users = "user" in known and "item" in known
    kind = "reviews" if users else "items"
    if not users and "item" not in known:
        return nothing(f"a RecBole atomic file with the columns {some(header)}, which holds no items", header)
    what = "interactions" if users else "items"
    summary = f"a RecBole atomic file of {what} with the columns {some(header)}{inside}"
    return Look(format="recbole", kind=kind, columns=header, summary=summary)  # type: ignore[arg-type]


def with_header(header: tuple[str, ...], words: str, rows: list[list[str]], name: str) -> Look:
    """The look of a table with these column names; `rows` are its first ones, none if they are not known."""
    known = roles(header)
    lower = {cell.lower() for cell in header}
    summary = f"{words} with the columns {some(header)}"
    if {"user", "item"} <= set(known):
        return Look(format=_release(lower), kind="reviews", columns=header, summary=summary)
    if "item" in known and len(header) >= 2 and _photo_column(rows) is not None:
        return Look(format=None, kind="photo_keys", columns=header, summary=f"{summary}: photo names and item keys")
    if "item" in known and (("title" in known) or "categories" in known or "brand" in known):
        return Look(format=_item_release(lower), kind="items", columns=header, summary=summary)
    if len(header) == 2 and (known.get("item") or _is_key_and_row(rows)) and "user" not in name.lower():
        if "user" in known or any(cell.lower().startswith("user") for cell in header):
            return nothing(f"{summary}: a map of users", header)
        return Look(format=None, kind="vector_keys", columns=header, summary=f"{summary}: item keys and rows")
    return nothing(summary, header)


def _release(lower: set[str]) -> str:
    if "reviewerid" in lower and lower & _TEXTS:
        return (
            "amazon2018" if lower & {"verified", "vote", "style", "image"} and "helpful" not in lower else "amazon2014"
        )
    if "parent_asin" in lower and lower & _TEXTS:
        return "amazon2023"
    return "ratings"


def _item_release(lower: set[str]) -> str:
    if lower & {"imurl", "salesrank"}:
        return "amazon2014"
    if lower & {"imageurlhighres", "also_buy", "main_cat"}:
        return "amazon2018"
    return "amazon2023" if "parent_asin" in lower and "main_category" in lower else "ratings"


def _headless(rows: list[list[str]], words: str) -> Look:
    width = len(rows[0])
    summary = f"{words} of {width} columns without a header, such as {some(tuple(rows[0]))}"
    if (photo := _photo_column(rows)) is not None and width == 2:
        return Look(
            format=None,
            kind="photo_keys",
            summary=f"{words} of photo names and item keys, photos in column {photo + 1}",
        )
    if width >= 3 and any(all(_is_time(row[place].strip()) for row in rows) for place in range(1, width)):
        return Look(format="ratings", kind="reviews", summary=summary)
    if width == 2 and _is_key_and_row(rows):
        return Look(format=None, kind="vector_keys", summary=f"{words} of keys and row numbers")
    return nothing(summary)


def _is_time(cell: str) -> bool:
    """Whether a cell is a time since 1970 or a date; ratings and ages are not."""
    return bool(_DATE.match(cell)) or (bool(_NUMBER.fullmatch(cell)) and float(cell) >= 1e8)


def _same_kinds(rows: list[list[str]]) -> bool:
    """Whether the first row looks like the others, as that of a table without a header."""
    first = [_shape(cell) for cell in rows[0]]
    return len(rows) > 1 and any(shape != "word" for shape in first) and first == [_shape(cell) for cell in rows[1]]


def _shape(cell: str) -> str:
    if _NUMBER.fullmatch(cell.strip()):
        return "number"
    if cell.lower().endswith(IMAGE_SUFFIXES):
        return "photo"
    return "key" if re.fullmatch(r"(?=.*\d)[A-Z0-9]{6,}", cell.strip()) else "word"


def _photo_column(rows: list[list[str]]) -> int | None:
    for place in range(len(rows[0]) if rows else 0):
        if all(row[place].strip().lower().endswith(IMAGE_SUFFIXES) for row in rows) and not rows[0][place].startswith(
            "http"
        ):
            return place
    return None


def _is_key_and_row(rows: list[list[str]]) -> bool:
    """Whether one of two columns counts the rows from 0 or 1."""
    if not rows or len(rows[0]) != 2:
        return False
    for place in (0, 1):
        cells = [row[place].strip() for row in rows]
        if all(cell.isdecimal() and len(cell) < 18 for cell in cells):
            counted = [int(cell) for cell in cells]
            if counted == list(range(counted[0], counted[0] + len(rows))) and counted[0] in {0, 1}:
                return True
    return False
