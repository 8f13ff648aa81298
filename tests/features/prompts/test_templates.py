"""Prompt templates: the built-in file is complete, and every fault is reported by prompt and slot."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from features.errors import ParamsError
from features.prompts.templates import OWN_TEMPLATES, load_templates, slots_of

REAL_DATA = Path(os.environ.get("VIP5_REAL_DATA", Path(__file__).parents[3] / ".." / "shared" / "data"))
PUBLISHED = REAL_DATA.parent / "spec" / "published_prompts.yaml"


def test_there_are_nine_eight_and_twelve_prompts_in_order() -> None:
    ids = [prompt.id for prompt in load_templates()]
    expected = [f"{letter}-{n}" for letter, size in (("A", 9), ("B", 8), ("C", 12)) for n in range(1, size + 1)]
    assert ids == expected


def test_prompt_flags_are_those_of_the_paper() -> None:
    prompts = load_templates()
    assert [p.id for p in prompts if p.held_out] == ["A-9", "B-8", "C-12"]
    assert [p.id for p in prompts if p.evaluated] == ["A-3", "A-9", "B-5", "B-8", "C-3", "C-12"]
    assert [p.id for p in prompts if p.asks_yes_no] == ["A-7", "A-8", "B-1", "B-2", "B-3", "B-4"]
    assert [p.id for p in prompts if "{rating}" in p.target] == ["C-7", "C-8"]


def test_direct_prompts_and_only_they_have_a_history_variant() -> None:
    assert [p.id for p in load_templates() if p.source_history is not None] == [f"B-{n}" for n in range(1, 9)]


@pytest.mark.real
@pytest.mark.skipif(not PUBLISHED.is_file(), reason="no ../shared/spec beside VIP5_REAL_DATA")
def test_own_prompts_share_slots_and_flags_but_no_published_text() -> None:
    for own, published in zip(load_templates(), load_templates(PUBLISHED), strict=True):
        assert (own.id, own.family, own.held_out, own.evaluated, own.target) == (
            published.id, published.family, published.held_out, published.evaluated, published.target,
        )  # fmt: skip
        assert set(slots_of(own.source, own.id)) == set(slots_of(published.source, published.id)), own.id
        assert own.source != published.source


def test_photo_order_follows_the_text() -> None:
    prompts = {prompt.id: prompt for prompt in load_templates()}
    assert prompts["A-7"].image_slots == {"published": ("history", "photo")}
    assert prompts["B-5"].image_slots == {"published": ("candidates",), "history": ("history",)}
    assert prompts["C-1"].image_slots == {"published": ("photo",)}


def broken(path: Path, change: Any) -> Path:
    """The built-in file with `change(entries)` applied."""
    content = yaml.safe_load(OWN_TEMPLATES.read_text(encoding="utf-8"))
    change(content["prompts"])
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


FAULTS = {
    "unknown slot": (lambda e: e[0].update(source="{historie} ?"), r"slot \{historie\} in A-1 source.*history"),
    "slot of another family": (lambda e: e[0].update(source="{history} {feature}"), r"slot \{feature\} in A-1 source"),
    "answer in the question": (lambda e: e[0].update(source="{history} {yes_no}"), r"slot \{yes_no\} in A-1 source"),
    "no history": (lambda e: e[0].update(source="next ?"), r"no slot \{history\} in A-1 source"),
    "history in a direct source": (
        lambda e: e[9].update(source="{history} {photo}"),
        r"slot \{history\} in B-1 source",
    ),
    "no item in a direct source": (
        lambda e: e[9].update(source="{user_id} ?"),
        r"neither \{candidates\} nor \{photo\}",
    ),
    "slot twice": (lambda e: e[0].update(source="{history} {history}"), r"slot \{history\} twice in A-1 source"),
    "format": (lambda e: e[0].update(source="{history:>9}"), r"slot \{history\} with a format in A-1 source"),
    "attribute": (lambda e: e[0].update(source="{history.__class__}"), r"slot \{history.__class__\} in A-1 source"),
    "single brace": (lambda e: e[0].update(source="{history"), r"A-1 source"),
    "foreign target": (lambda e: e[0].update(target="{explanation}"), r"slot \{explanation\} in A-1 target"),
    "no target slot": (lambda e: e[0].update(target="yes"), r"no slot in A-1 target"),
    "repeated id": (lambda e: e[1].update(id="A-1"), r"prompt A-1 2 times"),
    "missing prompt": (lambda e: e.pop(2), r"8 sequential prompts.*A-3.*9: A-1 to A-9"),
    "wrong letter": (lambda e: e[0].update(id="X-1"), r"sequential prompt X-1"),
    "unknown family": (lambda e: e[0].update(family="sequentail"), r"sequentail.*sequential"),
    "unknown key": (lambda e: e[0].update(sorce="x"), r"key sorce in .*\(A-1\).*source"),
    "ill-typed flag": (lambda e: e[0].update(held_out="no"), r"A-1\) with held_out = 'no'"),
    "history variant elsewhere": (lambda e: e[0].update(source_history="{history}"), r"A-1 source_history"),
}


@pytest.mark.parametrize("fault", sorted(FAULTS))
def test_a_fault_is_named_by_prompt_and_slot(fault: str, tmp_path: Path) -> None:
    change, message = FAULTS[fault]
    with pytest.raises(ParamsError, match=message):
        load_templates(broken(tmp_path / "prompts.yaml", change))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"no file .*absent\.yaml"):
        load_templates(tmp_path / "absent.yaml")


def test_a_missing_history_variant_fails_only_if_requested(tmp_path: Path) -> None:
    prompts = load_templates(broken(tmp_path / "p.yaml", lambda entries: entries[13].pop("source_history")))
    assert prompts[13].template("published") == "Pick one for {user_name} : {candidates}"
    with pytest.raises(ParamsError, match="prompt B-5 without source_history"):
        prompts[13].template("history")


def test_what_a_prompt_gives_away_is_read_from_its_slots() -> None:
    given = {prompt.id: prompt.given for prompt in load_templates()}
    assert given["C-1"] == ()
    assert given["C-3"] == ("rating",)
    assert given["C-5"] == ("headline",)
    assert given["C-12"] == ("feature", "rating")
    assert {given[prompt.id] for prompt in load_templates() if prompt.family != "explanation"} == {()}
