"""Loads and validates the templates of the table `train/language`: a sentence or a title from a few words.

Reads the list `language` of a file of templates. Returns `Prompt` values of the family `language`, in file order.
Trade-off: a list of its own with three keys an entry, so that the 29 prompts stay those of the paper.
"""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from features.errors import ParamsError
from features.prompts.templates import OWN_TEMPLATES, Prompt, slots_of
from features.runtime.params import load_yaml, nearest

FAMILY = "language"
SENTENCE, TITLE = "{explanation}", "{title}"
_KEYS = ("id", "source", "target")
_SENTENCE_SLOTS = frozenset({"feature", "rating", "title", "item_id"})


def load_language(path: Path | None = None) -> tuple[Prompt, ...]:
    """Loads the language prompts of a YAML file; empty if the file has none.

    Args:
        path: YAML file; None for `features/prompts/prompts.yaml`.

    Raises:
        ParamsError: A key or slot is unknown or missing, the ids are not L-1 to L-n, or a form that every item needs
            is missing.

    Example:
        >>> load_language()[0].source
        'Write about the {feature} of {title} .'
    """
    path = OWN_TEMPLATES if path is None else path
    entries = load_yaml(path).get(FAMILY)
    if entries is None:
        return ()
    if not isinstance(entries, list):
        raise ParamsError(f"{FAMILY} in {path}", "a list of prompts", "fix the file")
    prompts = tuple(_prompt(entry, f"{path}, {FAMILY} prompt {n}") for n, entry in enumerate(entries, start=1))
    ids, expected = [prompt.id for prompt in prompts], [f"L-{n}" for n in range(1, len(prompts) + 1)]
    if ids != expected:
        odd = next(found for found, wanted in zip(ids, expected, strict=True) if found != wanted)
        raise ParamsError(f"{FAMILY} prompt {odd} in {path}", "ids L-1, L-2 and so on in order", "renumber them")
    forms = Counter(TITLE if prompt.target == TITLE else shows_title(prompt) for prompt in prompts)
    if prompts and not (forms[TITLE] and forms[False]):
        raise ParamsError(
            f"the {FAMILY} prompts of {path}", "one with the target {title}, and one with {item_id} and {explanation}",
            "add them",
        )  # fmt: skip
    return prompts


def shows_title(prompt: Prompt) -> bool:
    """Whether the source holds the title of the item, which not every item has."""
    return TITLE in prompt.source


def _prompt(entry: Any, where: str) -> Prompt:
    if not isinstance(entry, Mapping):
        raise ParamsError(f"{where} that is {type(entry).__name__}", f"a mapping of {', '.join(_KEYS)}", "fix it")
    where = f"{where} ({entry['id']})" if "id" in entry else where
    for key in entry:
        if key not in _KEYS:
            raise ParamsError(f"key {key} in {where}", nearest(str(key), list(_KEYS)), "rename or remove it")
    for key in _KEYS:
        if not isinstance(entry.get(key), str):
            raise ParamsError(f"{where} with {key} = {entry.get(key)!r}", f"{key} of type str", "fix it")
    if entry["target"] not in {SENTENCE, TITLE}:
        raise ParamsError(f"target {entry['target']!r} in {where}", f"{SENTENCE} or {TITLE}", "fix it")
    _check_source(entry)
    return Prompt(**entry, family=FAMILY, held_out=False, evaluated=False, image_slots={"published": ()})


def _check_source(entry: Mapping[str, str]) -> None:
    """Raises ParamsError unless a sentence has {feature} and the item, a title the identifier alone."""
    where = f"{entry['id']} source"
    slots = slots_of(entry["source"], where)
    of_sentence = entry["target"] == SENTENCE
    allowed = _SENTENCE_SLOTS if of_sentence else {"item_id"}
    for slot, count in Counter(slots).items():
        if slot not in allowed or count > 1:
            raise ParamsError(
                f"slot {{{slot}}} in {where}", f"each of {', '.join(sorted(allowed))} at most once", "remove it"
            )
    if not {"item_id", "title"} & set(slots):
        raise ParamsError(f"neither {{item_id}} nor {{title}} in {where}", "one of them", "add it")
    if of_sentence and "feature" not in slots:
        raise ParamsError(f"no slot {{feature}} in {where}", "a {feature}", "add it")
