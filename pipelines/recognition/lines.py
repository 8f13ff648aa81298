"""Recognises lines of words: P5 and bare sequences, OpenP5 sequences and titles, one key per line.

Reads the first lines of a text. Trade-off: numbers in a line may be P5's, OpenP5's or bare ones; the name decides then.
"""

import re
from collections.abc import Callable

from pipelines.recognition.looks import Look, nothing

_KEY = re.compile(r"(?=[^\d]*\d)[A-Za-z0-9_-]{1,64}")
_LINES = 200
_MOST_LETTERS = 1 << 18


def look_at_lines(text: str, inside: str, name: str) -> Look | None:
    """The look of lines of keys or numbers, None if they are neither."""
    cut = len(text) > _MOST_LETTERS
    lines = [line for line in text[:_MOST_LETTERS].lstrip("\ufeff").splitlines()[:_LINES] if line.strip()]
    if cut and len(lines) > 1 and len(lines) < _LINES:
        lines.pop()
    words = [line.split() for line in lines]
    if not words:
        return None
    if _share(words, lambda line: len(line) >= 2 and all(word.isdecimal() for word in line)) >= 0.9:
        return _numbers(words, inside, name)
    if _share(words, lambda line: len(line) >= 2 and all(_KEY.fullmatch(word) for word in line)) >= 0.9:
        summary = f"sequences of keys, one user a line as in OpenP5's user_sequence.txt{inside}"
        return Look(format="openp5", kind="reviews", summary=summary)
    if _share(words, lambda line: len(line) == 1 and bool(_KEY.fullmatch(line[0]))) == 1 and len(words) > 1:
        return Look(format=None, kind="vector_keys", summary=f"one key a line, such as {words[0][0]}{inside}")
    firsts = [line[0] for line in words]
    keyed = len(set(firsts)) == len(firsts) > 1 and all(_KEY.fullmatch(first) for first in firsts)
    if keyed and _share(words, lambda line: len(line) >= 2) >= 0.9:
        summary = f"an item key and its text in a line, as in OpenP5's item_plain_text.txt{inside}"
        return Look(format="openp5", kind="items", summary=summary)
    return None


def _numbers(words: list[list[str]], inside: str, name: str) -> Look:
    users = [int(line[0][:18]) for line in words]
    if "user_sequence" in name:
        summary = f"sequences of numbers, named as OpenP5's{inside}"
        return Look(format="openp5", kind="reviews", summary=summary)
    if len(set(users)) < 0.9 * len(users):
        return nothing(f"lines of numbers that do not begin with a user each{inside}")
    form = "p5" if name.startswith("sequential_data") else "sequences"
    return Look(format=form, kind="reviews", summary=f"sequences of numbers, a user and items in a line{inside}")


def _share(words: list[list[str]], is_so: Callable[[list[str]], bool]) -> float:
    return sum(map(is_so, words)) / len(words)
