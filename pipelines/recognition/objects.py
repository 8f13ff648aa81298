"""Recognises JSON and Python-literal objects by their keys: the Amazon releases, P5's maps, lists of keys.

Reads text that may be cut anywhere. Trade-off: a scanner of strings and brackets instead of a parser, since one serves
JSON lines, arrays, indented JSON and Python literals alike, and a cut end does no harm.
"""

import re
from dataclasses import dataclass

from pipelines.recognition.looks import Look, nothing, some

_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*+"?|\'(?:[^\'\\]|\\.)*+\'?|[{}\[\]:]', re.DOTALL)
_MOST_LETTERS = 1 << 18
_MOST_OBJECTS = 20
_MOST_KEYS = 200
_REVIEWS_2018 = {"verified", "vote", "style", "image"}
_ITEMS_2014 = {"categories", "imUrl", "salesRank", "related"}
_ITEMS_2018 = {
    "category", "imageURL", "imageURLHighRes", "also_buy", "also_view", "main_cat", "similar_item", "tech1", "rank",
    "feature", "fit", "date",
}  # fmt: skip
_ITEMS_2023 = {"main_category", "store", "average_rating", "rating_number", "bought_together"}


@dataclass(frozen=True)
class Objects:
    """The keys of the first objects in first-seen order, and how they are written."""

    keys: tuple[str, ...]
    number: int
    in_array: bool
    quoted: str
    nested: tuple[str, ...]


def scanned(text: str) -> Objects:
    """The keys of up to 20 top-level objects of a text, or of the objects of a top-level array."""
    text = text[:_MOST_LETTERS].lstrip("\ufeff \t\r\n")
    outer = 1 if text.startswith("[") else 0
    depth, number = 0, 0
    keys: dict[str, None] = {}
    nested: dict[str, None] = {}
    quote, last = "", ""
    for mark in (match[0] for match in _TOKEN.finditer(text)):
        if mark in "{[":
            depth += 1
        elif mark in "}]":
            depth -= 1
            number += mark == "}" and depth == outer
            if number >= _MOST_OBJECTS or depth < 0:
                break
        elif mark == ":" and last[:1] in {'"', "'"}:
            if depth == outer + 1 and len(keys) < _MOST_KEYS:
                keys[last[1:-1]] = None
                quote = quote or last[0]
            elif depth == outer + 2 and len(nested) < _MOST_KEYS:
                nested[last[1:-1]] = None
        last = mark
    return Objects(tuple(keys), number, bool(outer), quote, tuple(nested))


def look_at_objects(text: str, inside: str) -> Look | None:
    """The look of a text that begins with a bracket, None if it holds no objects."""
    found = scanned(text)
    keys = set(found.keys)
    if not keys:
        return None
    if {"id2user", "id2item", "user2id"} & keys:
        return Look(format="p5", kind="maps", columns=found.keys, summary=f"number maps of P5 (datamaps.json){inside}")
    form, kind, what = _amazon(keys, found.keys)
    written = _written(found) + inside
    if form and kind:
        columns = found.keys
        return Look(format=form, kind=kind, columns=columns, summary=f"{what} ({written})")  # type: ignore[arg-type]
    if len(keys) == _MOST_KEYS or (len(keys) > 3 and not found.nested and found.number <= 1 and _are_items(found.keys)):
        return Look(format=None, kind="vector_keys", summary=f"a JSON object of keys such as {some(found.keys, 2)}")
    return nothing(f"{written} with the keys {some(found.keys)}", found.keys)


def _are_items(keys: tuple[str, ...]) -> bool:
    return all(re.fullmatch(r"(?=.*\d)[A-Za-z0-9_-]+", key) for key in keys)


def _written(found: Objects) -> str:
    if found.in_array:
        return "a JSON array"
    if found.quoted == "'":
        return "Python literals"
    return "JSON lines" if found.number != 1 or not found.nested else "JSON"


def _amazon(keys: set[str], ordered: tuple[str, ...]) -> tuple[str | None, str | None, str]:
    """(format, kind, words) of the Amazon release with such keys; (None, None, "") if there is none."""
    if "reviewerID" in keys and {"asin", "overall"} & keys:
        year = "2018" if keys & _REVIEWS_2018 and "helpful" not in keys else "2014"
        return f"amazon{year}", "reviews", f"Amazon reviews of {year}"
    if "user_id" in keys and {"parent_asin", "asin"} & keys and {"rating", "timestamp"} & keys:
        return "amazon2023", "reviews", "Amazon reviews of 2023"
    if "vip5_item_id" in keys and "asin" in keys:
        return "p5", "items", "item metadata of a P5 folder"
    if "parent_asin" in keys:
        return "amazon2023", "items", "Amazon metadata of 2023"
    if "asin" not in keys or "reviewText" in keys:
        return None, None, ""
    score = {"2014": len(keys & _ITEMS_2014), "2018": len(keys & _ITEMS_2018), "2023": len(keys & _ITEMS_2023)}
    year = max(score, key=lambda name: score[name])
    if not score[year] and not {"title", "brand", "price"} & set(ordered):
        return None, None, ""
    return f"amazon{year}", "items", f"Amazon metadata of {year}"
