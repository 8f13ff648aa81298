"""Histories that do not fit lose their oldest items, never the question.

Enters: the text of a next-item prompt that is too long, and what fits. Leaves: the text without its oldest items, and
which photos went with them.
Trade-off: items are found in the text by their shape (`17 <extra_id_0> <extra_id_0> ,`), so that any template will do.
"""

import re
from collections.abc import Callable

from modeling.data.tokenizer import PHOTO

_ITEM = re.compile(rf"\S+((?: {PHOTO})+) (?:,|->) ")  # one that another item follows


def without_oldest(text: str, fits: Callable[[str], bool]) -> tuple[str, list[int]]:
    """The text with as many of its oldest items as stay below the limit, and the places of the photos that went.

    Args:
        text: a prompt whose history runs from the oldest item to the newest.
        fits: whether a text is short enough.

    Example: "After 7 <extra_id_0> , 8 <extra_id_0> , 9 <extra_id_0> , what next ?" may become
        "After 9 <extra_id_0> , what next ?" without photos 0 and 1.
    """
    gone: list[int] = []
    while not fits(text):
        items = list(_ITEM.finditer(text))
        # "... 9 <extra_id_0> , what next ?": what follows the newest item is a comma as well, so the last one stays.
        if len(items) < 2 and text.count(PHOTO) <= (items[0][1].count(PHOTO) if items else 0):
            break
        if not items:
            break
        oldest = items[0]
        gone.append(len(gone) + text[: oldest.start()].count(PHOTO) // oldest[1].count(PHOTO))
        text = text[: oldest.start()] + text[oldest.end() :]
    return text, gone
