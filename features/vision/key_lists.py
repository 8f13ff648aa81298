"""Reads tables of names beside item keys: `photo_keys` and `vector_keys`.

Reads CSV with comma, semicolon or tab, with or without a header, plain lines, or JSON. Returns plain lists.
"""

import csv
import json
from collections import Counter
from pathlib import Path

from features.errors import InputError
from features.vision.photo_files import photo_stem

KEY_HEADERS = ("item_key", "asin", "parent_asin", "item_id", "itemid", "movieid", "key", "item")
_DELIMITERS = "\t;,"


def read_rows(path: Path, name: str, expected: str) -> list[list[str]]:
    """The rows of a table of one or two columns, with its header if it has one; blank lines are skipped.

    Args:
        path: The table.
        name: Name of the dataset's key that lists it, for messages.
        expected: What it should hold, for messages.

    Raises:
        InputError: The file is missing, not UTF-8, empty, or a row has more or fewer columns than the first.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise InputError(
            f"no file {path}", expected, f"copy it there, or correct {name} of the dataset in params.yaml"
        ) from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}, which is not UTF-8 ({error.reason})", expected, "save it as UTF-8") from error
    lines = text.splitlines()
    first = next((line for line in lines if line.strip()), "")
    delimiter = next((one for one in _DELIMITERS if one in first), ",")
    rows: list[list[str]] = []
    try:
        for number, row in enumerate(csv.reader(lines, delimiter=delimiter), start=1):
            cells = [cell.strip() for cell in row]
            if any(cells):
                if rows and len(cells) != len(rows[0]):
                    raise InputError(
                        f"row {number} of {path} with {len(cells)} columns where the first has {len(rows[0])}",
                        expected, "correct the row",
                    )  # fmt: skip
                rows.append(cells)
    except csv.Error as error:
        raise InputError(f"{path}, which is no table ({error})", expected, "save it as CSV") from error
    if not rows:
        raise InputError(f"{path} without a row", expected, f"fill it, or leave {name} of the dataset out")
    return rows


def read_photo_keys(path: Path) -> dict[str, list[str]]:
    """Photo name to item keys; a photo may be listed for several items.

    A name with folders counts without them too where that is unique: `photos/IMG_1.jpg` is IMG_1.jpg.

    A first row with the name of a key column, such as `item_key` or `asin`, is a header, and tells which column it is.
    Without a header the photo names are the column of which the first cell is one, else the first.

    Raises:
        InputError: The file is missing or no table of two columns.
    """
    expected = "a CSV of photo name and item key"
    rows = read_rows(path, "photo_keys", expected)
    if len(rows[0]) < 2:
        raise InputError(f"{path} with one column", expected, "write each photo's item key after its name")
    headers = [cell.casefold() for cell in rows[0]]
    key = next((column for column, header in enumerate(headers) if header in KEY_HEADERS), None)
    body = rows if key is None else rows[1:]
    if key is None:
        key = 0 if photo_stem(rows[0][1]) and not photo_stem(rows[0][0]) else 1
    listed: dict[str, list[str]] = {}
    for row in body:
        keys = listed.setdefault(row[1 if key == 0 else 0].replace("\\", "/"), [])
        if row[key] not in keys:
            keys.append(row[key])
    last = {name: name.rpartition("/")[2] for name in listed}
    number = Counter(last.values())
    return {last[name]: keys for name, keys in listed.items() if number[last[name]] == 1} | listed


def read_vector_keys(path: Path, num_rows: int) -> dict[str, int]:
    """Item key to row of a matrix, from 0.

    The file is a CSV of key and row (in either order, with or without a header), one key per line in row order, a JSON
    list of keys in row order, or a JSON object of key to row or of row to key.

    Raises:
        InputError: The file is missing or in another form, its rows do not fit the matrix, or a key stands twice.
    """
    expected = f"an item key for each of the {num_rows:,} rows of the matrix, numbered from 0"
    pairs = (
        _json_pairs(path, num_rows, expected)
        if path.suffix.lower() == ".json"
        else _table_pairs(path, num_rows, expected)
    )
    action = f"write the matrix and {path.name} from the same items"
    rows: dict[str, int] = {}
    for key, row in pairs:
        if not 0 <= row < num_rows:
            raise InputError(f"row {row} for {key[:80]} in {path}", expected, action)
        if rows.setdefault(key, row) != row:
            raise InputError(f"{key[:80]} for the rows {rows[key]} and {row} in {path}", expected, "remove one of them")
    return rows


def _table_pairs(path: Path, num_rows: int, expected: str) -> list[tuple[str, int]]:
    rows = read_rows(path, "vector_keys", expected)
    if len(rows[0]) == 1:
        keys = [row[0] for row in rows]
        if len(keys) == num_rows + 1 and keys[0].casefold() in KEY_HEADERS:
            keys = keys[1:]
        return _in_row_order(keys, num_rows, path, expected)
    body = rows if any(_is_row(cell) for cell in rows[0][:2]) else rows[1:]
    column = next((column for column in (1, 0) if body and all(_is_row(row[column]) for row in body)), None)
    if column is None:
        raise InputError(f"{path} without a column of row numbers", expected, "write key and row, or one key per line")
    return [(row[1 - column], int(row[column])) for row in body]


def _json_pairs(path: Path, num_rows: int, expected: str) -> list[tuple[str, int]]:
    if not path.is_file():
        raise InputError(f"no file {path}", expected, "copy it there, or correct vector_keys in params.yaml")
    try:
        loaded = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}, which is no JSON ({str(error)[:80]})", expected, "write it again") from error
    if isinstance(loaded, list) and all(isinstance(key, str | int) for key in loaded):
        return _in_row_order([str(key) for key in loaded], num_rows, path, expected)
    if isinstance(loaded, dict) and all(isinstance(row, int) for row in loaded.values()):
        return list(loaded.items())
    if isinstance(loaded, dict) and all(_is_row(row) and isinstance(key, str) for row, key in loaded.items()):
        return [(key, int(row)) for row, key in loaded.items()]
    raise InputError(f"{path} of another form", "a list of keys, or an object of key to row", "write it in this form")


def _in_row_order(keys: list[str], num_rows: int, path: Path, expected: str) -> list[tuple[str, int]]:
    if len(keys) != num_rows:
        raise InputError(
            f"{len(keys):,} keys in {path} for {num_rows:,} rows", expected,
            "write one key per line in row order, or a CSV of key and row",
        )  # fmt: skip
    return [(key, row) for row, key in enumerate(keys)]


def _is_row(cell: str) -> bool:
    return cell.isdecimal() and cell.isascii() and len(cell) < 12
