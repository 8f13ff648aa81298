"""Rendering: literal texts, and every text of the recorded original."""

import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.prompts import rendering
from features.prompts.templates import Prompt, load_templates

REAL_DATA = Path(os.environ.get("VIP5_REAL_DATA", Path(__file__).parents[3] / ".." / "shared" / "data"))
SPEC = REAL_DATA.parent / "spec"
RECORDED = {"records": 290, "extra_missing_title_or_name": 10, "truncated_at_128_tokens": 6}
"""The lists of recorded examples and how many they hold; the last are cut as tokens, not as text."""
needs_spec = pytest.mark.skipif(
    not (SPEC / "golden" / "loader_share.json").is_file(), reason="no ../shared/spec beside VIP5_REAL_DATA"
)


def slots_of_record(record: dict[str, Any], photo: str) -> tuple[dict[str, str], dict[str, list[int]]]:
    """Slot texts and photo items from the inputs that the original loader logged."""
    inputs = record["inputs"]
    asked = inputs.get("asked_item", inputs.get("item", inputs.get("target_item")))
    slots = {
        "user_id": str(inputs["user_number"]),
        "user_name": inputs.get("user_name") or inputs.get("reviewer_name") or inputs.get("reviewer_id"),
        "item_id": str(asked),
        "photo": photo,
        "title": inputs.get("title") or rendering.UNKNOWN_TITLE,
        "yes_no": inputs.get("answer", ""),
    }
    for key in ("history", "candidates"):
        separator = inputs.get("separator", rendering.COMMA)
        slots[key] = separator.join(rendering.item_with_photo(str(i), photo) for i in inputs.get(key, []))
    for key in ("headline", "feature", "explanation"):
        slots[key] = inputs.get(key) or ""
    slots["rating"] = rendering.stars(inputs["rating"]) if "rating" in inputs else ""
    return slots, {"history": inputs.get("history", []), "candidates": inputs.get("candidates", []), "photo": [asked]}


@pytest.mark.real
@needs_spec
@pytest.mark.parametrize("part", RECORDED)
def test_published_templates_give_the_recorded_texts(part: str) -> None:
    golden = json.loads((SPEC / "golden" / "loader_share.json").read_text(encoding="utf-8"))
    prompts = {prompt.id: prompt for prompt in load_templates(SPEC / "published_prompts.yaml")}
    photo = rendering.photo(golden["image_tokens_per_item"])
    assert len(golden[part]) == RECORDED[part]
    if part == "records":
        assert {record["template"] for record in golden[part]} == set(prompts)
    for record in golden[part]:
        prompt = prompts[record["template"]]
        slots, items = slots_of_record(record, photo)
        assert rendering.render_source(prompt, slots) == record["source_text"]
        draw = record["inputs"].get("rating_draw")
        if draw:
            normal = (draw["value"] - draw["mean"]) / draw["std"]
            slots["rating"] = rendering.jittered_stars(record["inputs"]["rating"], normal)
        assert rendering.render_target(prompt, slots) == record["target_text"]
        assert rendering.image_items(prompt, "published", items) == record["image_items"]


def by_id(prompt_id: str) -> Prompt:
    return next(prompt for prompt in load_templates() if prompt.id == prompt_id)


def test_an_own_sequential_prompt_reads_as_documented() -> None:
    slots = {"user_id": "42", "history": "5 <extra_id_0> , 17 <extra_id_0>", "item_id": "203"}
    assert (
        rendering.render_source(by_id("A-1"), slots)
        == "History of user_42 : 5 <extra_id_0> , 17 <extra_id_0> . Next item ?"
    )
    assert rendering.render_target(by_id("A-1"), slots) == "203"


def test_the_history_variant_shows_the_history_not_the_list() -> None:
    items = {"history": [5, 17], "candidates": [9, 8], "photo": [8]}
    assert rendering.image_items(by_id("B-5"), "history", items) == [5, 17]
    assert rendering.image_items(by_id("B-5"), "published", items) == [9, 8]
    assert rendering.image_items(by_id("A-7"), "published", items) == [5, 17, 8]


def test_dump_text_cannot_inject_tokens_or_braces() -> None:
    assert rendering.plain("nice <extra_id_0>\n\tand <item_12> <pad>") == "nice extra_id_0 and item_12 pad"
    assert rendering.plain("i <3 it, 5 > 4") == "i <3 it, 5 > 4"
    slots = {"user_name": "{user_id}", "title": "{0}", "photo": "P"}
    assert rendering.render_source(by_id("C-4"), slots) == "Say why {user_id} chose this product : {0} P"


@settings(max_examples=500, deadline=None)
@given(
    st.lists(
        st.sampled_from(["<", ">", "/", "item_", "extra_id_", "0", "12", "s", "pad", "unk", " ", "a"]), max_size=24
    )
)
def test_no_nesting_leaves_a_special_token(parts: list[str]) -> None:
    text = "".join(parts)
    assert not re.search(r"<[a-z]+_\d+>|<extra_id_\d+>|</?(s|pad|unk)>", rendering.plain(text))
    assert not re.search(r"<[a-z]+_\d+>|</?(s|pad|unk)>", rendering.shown_name(None, text or "A1"))


def test_deep_nesting_takes_linear_time() -> None:
    seconds = []
    for depth in (20_000, 80_000):
        start = time.process_time()
        assert rendering.plain("<" * depth + "item_3" + ">" * depth) == "item_3"
        seconds.append(time.process_time() - start)
    assert seconds[1] < 40 * seconds[0] + 0.05


def test_half_stars_and_other_scales_are_shown_as_they_are() -> None:
    assert [rendering.stars(rating) for rating in (4.0, 3.5, 0.5, 10.0)] == ["4", "3.5", "0.5", "10"]
    assert [rendering.jittered_stars(rating, 1.0) for rating in (3.5, 10.0)] == ["3.5", "10.0"]


@pytest.mark.parametrize(
    ("rating", "normal", "text"),
    [
        (1.0, 0.0, "1.2"),
        (1.0, -5.0, "1.0"),
        (2.0, 1.0, "2.2"),
        (3.0, 0.5, "3.1"),
        (4.0, -1.0, "3.7"),
        (5.0, 9.0, "5.0"),
    ],
)
def test_jitter_stays_on_the_scale_and_has_one_decimal(rating: float, normal: float, text: str) -> None:
    assert rendering.jittered_stars(rating, normal) == text


def test_a_photo_takes_one_placeholder_a_visual_token() -> None:
    assert rendering.item_with_photo("<a_1><b_2>", rendering.photo(3)) == "<a_1><b_2> " + " ".join(["<extra_id_0>"] * 3)
