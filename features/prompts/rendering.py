"""Slots to text: pure functions that turn items, names and ratings into what a prompt says.

Enters: a `Prompt` and slot values as text. Leaves: source and target text, and the order of photos in the source.
Trade-off: values are substituted as they are, so text from a dump must pass `plain` once before it becomes a slot.
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

_LOOKS_LIKE_A_TOKEN = re.compile(r"<(/?[a-z][a-z_]*_?\d*)>")

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
    """`text` of a dump made safe for a slot: blanks collapsed, and nothing that a tokenizer takes for a special token.

    Example:
        >>> plain("great  <item_3>   </s>")
        'great item_3 /s'
    """
    return _LOOKS_LIKE_A_TOKEN.sub(r"\1", " ".join(text.split()))


def stars(rating: float) -> str:
    """The whole star number: of 4.0, '4'."""
    return str(int(rating))


def jittered_stars(rating: float, normal: float) -> str:
    """The star number moved by a standard-normal draw, as in training targets.

    Args:
        rating: stars, 1 to 5.
        normal: a draw from the standard normal distribution.

    Example:
        >>> jittered_stars(5.0, 0.4)
        '4.8'
    """
    mean, deviation = RATING_JITTER[int(rating)]
    return f"{min(max(round(mean + deviation * normal, 1), 1.0), 5.0):.1f}"


def render_source(prompt: Prompt, slots: Mapping[str, str], variant: str = "published") -> str:
    """What the encoder reads.

    Args:
        prompt: the template.
        slots: slot name -> text; more slots than the template has are fine.
        variant: published, or history for a direct prompt that also shows the history.

    Raises:
        KeyError: a slot of the template has no value (an error of the caller).

    Example:
        A-1 of this project with user_id "42" and history "5 <extra_id_0> , 17 <extra_id_0>" gives
        'History of user_42 : 5 <extra_id_0> , 17 <extra_id_0> . Next item ?'
    """
    return prompt.template(variant).format_map(slots)


def render_target(prompt: Prompt, slots: Mapping[str, str]) -> str:
    """What the decoder must write; `slots["rating"]` may differ from the source's (see `jittered_stars`)."""
    return prompt.target.format_map(slots)


def image_items(prompt: Prompt, variant: str, by_slot: Mapping[str, Items]) -> Items:
    """The items whose photos stand in the source, in text order, once a photo.

    Args:
        prompt: the template.
        variant: published or history.
        by_slot: the item ids of the slots `history`, `candidates` and `photo`.
    """
    slots = prompt.image_slots[variant]
    return by_slot[slots[0]] if len(slots) == 1 else [item for slot in slots for item in by_slot[slot]]
