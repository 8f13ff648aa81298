"""Truncates next-item prompts by dropping the oldest items of the history, never the question.

Reads a prompt that is too long; returns the shortened text and the indices of the dropped photos.
Trade-off: items are recognised by their format (`17 <extra_id_0> <extra_id_0> ,`), independent of the template.
"""

import re
from collections.abc import Callable

from modeling.data.tokenizer import PHOTO

_ITEM = re.compile(rf"\S+((?: {PHOTO})+) (?:,|->) ")  # an item with a successor


def without_oldest(text: str, fits: Callable[[str], bool]) -> tuple[str, list[int]]:
    """Drops the oldest items of `text` until it fits; returns it and the indices of the dropped photos.

    Args:
        text: a prompt whose history is ordered from oldest to newest.
        fits: returns whether a text is short enough.

    Example: "After 7 <extra_id_0> , 8 <extra_id_0> , 9 <extra_id_0> , what next ?" may become
        "After 9 <extra_id_0> , what next ?" without photos 0 and 1.
    """
    dropped: list[int] = []
    while not fits(text):
        items = list(_ITEM.finditer(text))
        # "... 9 <extra_id_0> , what next ?": a comma may follow the newest item too, so the last match is kept.
        if len(items) < 2 and text.count(PHOTO) <= (items[0][1].count(PHOTO) if items else 0):
            break
        if not items:
            break
        oldest = items[0]
        dropped.append(len(dropped) + text[: oldest.start()].count(PHOTO) // oldest[1].count(PHOTO))
        text = text[: oldest.start()] + text[oldest.end() :]
    return text, dropped
