"""Renders prompts: pure functions from items, names and ratings to text.

Reads a `Prompt` and slot values. Returns source and target text, and the order of photos in the source.
Trade-off: values are substituted verbatim, so text from a dump must pass through `plain` before it fills a slot.
"""

import re
from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np

from features.prompts.templates import Prompt

Items: TypeAlias = "Sequence[int] | np.ndarray"
PLACEHOLDER = "<extra_id_0>"
UNKNOWN_TITLE = "unknown title"
NO_HEADLINE = "no headline"
COMMA, ARROW = " , ", " -> "

_LOOKS_LIKE_A_TOKEN = re.compile(r"<(/?[a-z][a-z_]*\d*)>")
_BRACKETS = re.compile(r"[<>]")
_NESTED = 4  # rounds of removing brackets, each an own level of nesting, before all brackets go

# Normal distributions around the stars 1 to 5 for training targets of C-7 and C-8 (mean, standard deviation):
# the middle and a quarter of the width of [1.0, 1.4], [1.5, 2.4], [2.5, 3.4], [3.5, 4.4], [4.5, 5.0].
RATING_JITTER = {1: (1.2, 0.1), 2: (1.95, 0.225), 3: (2.95, 0.225), 4: (3.95, 0.225), 5: (4.75, 0.125)}


def photo(num_visual_tokens: int) -> str:
    """The placeholder of one photo.

    Example:
        >>> photo(2)
        '<extra_id_0> <extra_id_0>'
    """
    return " ".join([PLACEHOLDER] * num_visual_tokens)


def item_with_photo(identifier: str, photo_text: str) -> str:
    """One item of a list.

    Example:
        >>> item_with_photo("17", photo(2))
        '17 <extra_id_0> <extra_id_0>'
    """
    return f"{identifier} {photo_text}"


def plain(text: str) -> str:
    """Makes text of a dump safe for a slot: collapses white space and removes the brackets of special tokens.

    No part of the result is a special token or an identifier of any tokenizer, however the brackets are nested.

    Example:
        >>> plain("great  <item_3>   </s>"), plain("<<<item_3>>> < 5")
        ('great item_3 /s', 'item_3 < 5')
    """
    text = " ".join(text.split())
    for _ in range(_NESTED):
        text, changes = _LOOKS_LIKE_A_TOKEN.subn(r"\1", text)
        if not changes:
            return text
    return _BRACKETS.sub("", text)


def shown_name(name: str | None, key: str) -> str:
    """The name of a user in prompts: the display name, the key if nothing of it is left, both as `plain` text.

    Example:
        >>> shown_name("<<extra_id_0>>", "A1"), shown_name(None, "<item_2>")
        ('extra_id_0', 'item_2')
    """
    return plain(name or "") or plain(key) or "user"


def stars(rating: float) -> str:
    """The rating as short as possible, such as '4' for 4.0 and '3.5' for 3.5."""
    return f"{rating:g}"


def jittered_stars(rating: float, normal: float) -> str:
    """The rating with Gaussian jitter, as in training targets; half stars and other scales have no jitter.

    Args:
        rating: Stars.
        normal: A draw from the standard normal distribution.

    Example:
        >>> jittered_stars(5.0, 0.4)
        '4.8'
    """
    if rating not in RATING_JITTER:
        return f"{rating:.1f}"
    mean, deviation = RATING_JITTER[int(rating)]
    return f"{min(max(round(mean + deviation * normal, 1), 1.0), 5.0):.1f}"


def render_source(prompt: Prompt, slots: Mapping[str, str], variant: str = "published") -> str:
    """Renders the encoder input.

    Args:
        prompt: The template.
        slots: Slot name to text; extra slots are ignored.
        variant: published, or history for a direct prompt that also shows the history.

    Raises:
        KeyError: A slot of the template has no value.

    Example:
        A-1 of this project with user_id "42" and history "5 <extra_id_0> , 17 <extra_id_0>" gives
        'History of user_42 : 5 <extra_id_0> , 17 <extra_id_0> . Next item ?'
    """
    return prompt.template(variant).format_map(slots)


def render_target(prompt: Prompt, slots: Mapping[str, str]) -> str:
    """Renders the decoder target; `slots["rating"]` may differ from the source's (see `jittered_stars`)."""
    return prompt.target.format_map(slots)


def image_items(prompt: Prompt, variant: str, by_slot: Mapping[str, Items]) -> Items:
    """The items whose photos appear in the source, in text order, one per photo.

    Args:
        prompt: The template.
        variant: published or history.
        by_slot: Item ids of the slots `history`, `candidates` and `photo`.
    """
    slots = prompt.image_slots[variant]
    return by_slot[slots[0]] if len(slots) == 1 else [item for slot in slots for item in by_slot[slot]]
