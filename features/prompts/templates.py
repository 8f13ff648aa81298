"""Loads and validates the 29 prompt templates of a YAML file.

Reads `features/prompts/prompts.yaml` (this project's wording) or any file with the same keys.
Returns `Prompt` values in file order.
Trade-off: slots are a closed set, filled by plain substitution; a template cannot compute or access attributes.
"""

import difflib
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from string import Formatter
from typing import Any

from features.errors import ParamsError
from features.runtime.params import load_yaml, nearest

OWN_TEMPLATES = Path(__file__).with_name("prompts.yaml")

SLOTS = {
    "user_id": "user number, digits only",
    "user_name": "display name; the dump's key of the user where there is none",
    "history": "items bought so far, oldest first, each with its photo",
    "candidates": "the items to choose from, each with its photo",
    "item_id": "identifier of the item that is asked about or, in a target, asked for",
    "photo": "photo placeholder of the item just named",
    "title": "product title; `unknown title` where there is none",
    "headline": "the review's summary line",
    "feature": "aspect word that the explanation speaks of; in language prompts a noun or adjective of the sentence",
    "explanation": "sentence of the review",
    "rating": "stars; a whole number, but jittered by a decimal in training targets",
    "yes_no": "`yes` for an item of the user, `no` for one never bought",
}
TARGET_SLOTS = frozenset({"item_id", "yes_no", "rating", "explanation"})
REVIEW_SLOTS = frozenset({"headline", "feature", "rating"})
"""Slots that hold a part of the review itself."""
ANSWER_SLOTS = frozenset({"explanation", "yes_no"})
"""Slots that only a target may hold."""

FAMILY_SIZES = {"sequential": ("A", 9), "direct": ("B", 8), "explanation": ("C", 12)}
_FOREIGN_SLOTS = {
    "sequential": REVIEW_SLOTS | {"candidates"},
    "direct": REVIEW_SLOTS,
    "explanation": frozenset({"history", "candidates"}),
}
_REQUIRED = {"id": str, "family": str, "source": str, "target": str, "held_out": bool, "evaluated": bool}


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One prompt template.

    `image_slots` maps a variant to the slots that put photos into its source, in text order.
    """

    id: str
    family: str
    source: str
    target: str
    held_out: bool
    evaluated: bool
    source_history: str | None = None
    image_slots: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def asks_yes_no(self) -> bool:
        """Whether the target is yes or no."""
        return "{yes_no}" in self.target

    @property
    def given(self) -> tuple[str, ...]:
        """Review slots that the source reveals about its target, such as ("feature", "rating"); sorted."""
        return tuple(sorted(REVIEW_SLOTS & set(slots_of(self.source, self.id))))

    def template(self, variant: str) -> str:
        """The source template of `variant` (published or history).

        Raises:
            ParamsError: this prompt has no history variant.
        """
        if variant == "published":
            return self.source
        if self.source_history is None:
            raise ParamsError(
                f"prompt {self.id} without source_history", "a template of its history variant",
                "add source_history to the file of prompts.templates, or remove history from prompts.direct_variants",
            )  # fmt: skip
        return self.source_history


def load_templates(path: Path | None = None) -> tuple[Prompt, ...]:
    """Loads and validates the 29 prompts of a YAML file, in file order.

    Args:
        path: YAML file; None for `features/prompts/prompts.yaml`.

    Raises:
        ParamsError: The file is missing, a key or slot is unknown, an id is duplicated, or a family has the wrong
            number of prompts; the message names the prompt.

    Example:
        >>> load_templates()[0].target
        '{item_id}'
    """
    path = OWN_TEMPLATES if path is None else path
    entries = load_yaml(path).get("prompts")
    if not isinstance(entries, list):
        raise ParamsError(f"{path} without a list `prompts`", "29 prompts under the key prompts", "fix the file")
    prompts = tuple(_prompt(entry, f"{path}, prompt {number}") for number, entry in enumerate(entries, start=1))
    _check_ids(prompts, path)
    return prompts


def slots_of(template: str, where: str) -> tuple[str, ...]:
    """The slots of a template in text order.

    Raises:
        ParamsError: A slot is unknown, has a conversion or format such as {rating:.1f}, or a brace is unpaired.

    Example:
        >>> slots_of("user_{user_id} : {history}", "A-1 source")
        ('user_id', 'history')
    """
    slots = []
    try:
        parsed = list(Formatter().parse(template))
    except ValueError as error:
        raise ParamsError(f"{where} = {template!r} ({error})", "braces in pairs", "fix the template") from error
    for _, name, form, conversion in parsed:
        if name is None:
            continue
        if name not in SLOTS:
            raise ParamsError(f"slot {{{name}}} in {where}", nearest(name, list(SLOTS)), "rename or remove the slot")
        if form or conversion:
            raise ParamsError(f"slot {{{name}}} with a format in {where}", f"{{{name}}}", "remove the format")
        slots.append(name)
    return tuple(slots)


def _prompt(entry: Any, where: str) -> Prompt:
    if not isinstance(entry, Mapping):
        raise ParamsError(f"{where} that is {type(entry).__name__}", f"a mapping of {', '.join(_REQUIRED)}", "fix it")
    where = f"{where} ({entry['id']})" if "id" in entry else where
    for key in entry:
        if key not in _REQUIRED and key != "source_history":
            raise ParamsError(
                f"key {key} in {where}", nearest(str(key), [*_REQUIRED, "source_history"]), "rename or remove it"
            )
    for key, kind in _REQUIRED.items():
        if not isinstance(entry.get(key), kind):
            raise ParamsError(f"{where} with {key} = {entry.get(key)!r}", f"{key} of type {kind.__name__}", "fix it")
    if entry["family"] not in FAMILY_SIZES:
        raise ParamsError(
            f"family {entry['family']!r} in {where}", nearest(entry["family"], list(FAMILY_SIZES)), "fix it"
        )
    image_slots = {"published": _check_source(entry, "source")}
    if entry.get("source_history") is not None:
        image_slots["history"] = _check_source(entry, "source_history")
    _check_target(entry)
    return Prompt(**entry, image_slots=image_slots)


def _check_source(entry: Mapping[str, Any], key: str) -> tuple[str, ...]:
    where = f"{entry['id']} {key}"
    slots = slots_of(entry[key], where)
    foreign = _FOREIGN_SLOTS[entry["family"]] | ANSWER_SLOTS
    if entry["family"] == "direct":
        with_history = key == "source_history"
        foreign = foreign if with_history else foreign | {"history"}
    if key == "source_history" and entry["family"] != "direct":
        raise ParamsError(where, "source_history in direct prompts alone", "remove it")
    for slot in slots:
        if slot in foreign:
            raise ParamsError(
                f"slot {{{slot}}} in {where}", f"no {{{slot}}} in that text of a {entry['family']} prompt", "remove it"
            )
    repeated = [slot for slot, count in Counter(slots).items() if count > 1]
    if repeated:
        raise ParamsError(f"slot {{{repeated[0]}}} twice in {where}", "each slot once", "remove one")
    wanted = {"sequential": {"history"}, "explanation": {"photo"}, "direct": {"history"} if key != "source" else set()}
    for slot in sorted(wanted[entry["family"]] - set(slots)):
        raise ParamsError(f"no slot {{{slot}}} in {where}", f"a {{{slot}}}", "add it")
    if entry["family"] == "direct" and key == "source" and not {"candidates", "photo"} & set(slots):
        raise ParamsError(f"neither {{candidates}} nor {{photo}} in {where}", "one of them", "add it")
    return tuple(slot for slot in slots if slot in {"history", "candidates", "photo"})


def _check_target(entry: Mapping[str, Any]) -> None:
    where = f"{entry['id']} target"
    slots = slots_of(entry["target"], where)
    allowed = {"explanation", "rating"} if entry["family"] == "explanation" else {"item_id", "yes_no"}
    for slot in slots:
        if slot not in allowed:
            raise ParamsError(
                f"slot {{{slot}}} in {where}", f"one of: {', '.join(sorted(allowed))}", "rename or remove it"
            )
    if not slots:
        raise ParamsError(f"no slot in {where}", f"one of: {', '.join(sorted(allowed))}", "add the slot")


def _check_ids(prompts: tuple[Prompt, ...], path: Path) -> None:
    for prompt_id, count in Counter(prompt.id for prompt in prompts).items():
        if count > 1:
            raise ParamsError(f"prompt {prompt_id} {count} times in {path}", "each id once", "remove or renumber one")
    for family, (letter, size) in FAMILY_SIZES.items():
        expected = [f"{letter}-{number}" for number in range(1, size + 1)]
        ids = [prompt.id for prompt in prompts if prompt.family == family]
        for prompt_id in ids:
            if not re.fullmatch(rf"{letter}-\d+", prompt_id):
                near = difflib.get_close_matches(prompt_id, expected, n=1, cutoff=0)
                raise ParamsError(f"{family} prompt {prompt_id} in {path}", f"an id such as {near[0]}", "renumber it")
        if set(ids) != set(expected):
            odd = sorted(set(ids) ^ set(expected))
            raise ParamsError(
                f"{len(ids)} {family} prompts in {path}, wrong about {', '.join(odd)}",
                f"{size}: {expected[0]} to {expected[-1]}", "add or remove prompts",
            )  # fmt: skip
