"""Language prompts: each form has several wordings, and every fault is reported by prompt and slot."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from features.errors import ParamsError
from features.prompts.language import load_language
from features.prompts.templates import OWN_TEMPLATES, load_templates, slots_of
from tests.features.prompts.test_templates import broken


def test_each_form_has_several_wordings() -> None:
    prompts = load_language()
    forms = [(frozenset(slots_of(prompt.source, prompt.id)), prompt.target) for prompt in prompts]
    assert {forms.count(form) for form in forms if form[1] == "{explanation}"} == {7}
    assert len(set(forms)) == 5
    assert len({prompt.source for prompt in prompts}) == len(prompts) == 31
    assert not any(prompt.held_out or prompt.evaluated or prompt.image_slots["published"] for prompt in prompts)


def test_what_a_language_prompt_gives_away_is_read_from_its_slots() -> None:
    given = {prompt.id: prompt.given for prompt in load_language()}
    assert (given["L-1"], given["L-15"], given["L-29"]) == (("feature",), ("feature", "rating"), ())


def test_the_29_prompts_do_not_include_them() -> None:
    assert not {prompt.id for prompt in load_templates()} & {prompt.id for prompt in load_language()}


def test_a_file_without_the_list_has_none(tmp_path: Path) -> None:
    path = broken(tmp_path / "p.yaml", lambda _: None)
    content = yaml.safe_load(path.read_text(encoding="utf-8"))
    del content["language"]
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    assert load_language(path) == ()


FAULTS: dict[str, tuple[Any, str]] = {
    "unknown slot": (lambda e: e[0].update(source="{titel} {feature}"), r"slot \{titel\} in L-1 source.*title"),
    "photo": (lambda e: e[0].update(source="{feature} {title} {photo}"), r"slot \{photo\} in L-1 source"),
    "user": (lambda e: e[0].update(source="{user_id} {feature} {title}"), r"slot \{user_id\} in L-1 source"),
    "slot twice": (lambda e: e[0].update(source="{feature} {feature} {title}"), r"slot \{feature\} in L-1 source"),
    "no word": (lambda e: e[0].update(source="Write about {title} ."), r"no slot \{feature\} in L-1 source"),
    "no item": (lambda e: e[0].update(source="Write about {feature} ."), r"neither \{item_id\} nor \{title\} in L-1"),
    "title from the title": (lambda e: e[28].update(source="{title} ?"), r"slot \{title\} in L-29 source"),
    "other target": (lambda e: e[0].update(target="{item_id}"), r"target '\{item_id\}' in .*\(L-1\)"),
    "wrong id": (lambda e: e[1].update(id="L-5"), r"prompt L-5 in .*L-1, L-2"),
    "unknown key": (lambda e: e[0].update(sorce="x"), r"key sorce in .*\(L-1\).*source"),
    "missing key": (lambda e: e[0].pop("target"), r"\(L-1\) with target = None"),
    "no title form": (lambda e: [e.pop(), e.pop(), e.pop()], r"one with the target \{title\}"),
    "not a mapping": (lambda e: e.append("x"), r"prompt 32 that is str"),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_fault_is_named_by_prompt_and_slot(fault: str, tmp_path: Path) -> None:
    change, message = FAULTS[fault]
    content = yaml.safe_load(OWN_TEMPLATES.read_text(encoding="utf-8"))
    change(content["language"])
    path = tmp_path / "prompts.yaml"
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ParamsError, match=message):
        load_language(path)
