"""The table prompts/train/language: sentences of train reviews and titles, without user, photo and target item."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from features import schema
from features.prompts.language import load_language
from features.runtime.params import build
from features.runtime.stage import Context
from features.store.tables import read_table
from pipelines import prompts
from tests.pipelines.prompt_tables import NUM_ITEMS, NUM_USERS, sentence_rows, sequence_of, write_dataset

TITLES = NUM_ITEMS - NUM_ITEMS // 10  # every tenth item has no title
TITLE_FORMS = {"L-29", "L-30", "L-31"}


def rows(context: Context) -> list[dict[str, Any]]:
    table = schema.prompts("train", "language")
    found: list[dict[str, Any]] = read_table(context.table(table.name), table).to_pylist()
    return found


def made(root: Path, **params: Any) -> list[dict[str, Any]]:
    context = write_dataset(root)
    prompts.run(prompts.Params(**params), context)
    return rows(context)


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return made(tmp_path_factory.mktemp("language"), rounds=2, titles_per_item=3)


def test_every_sentence_and_title_is_a_row_of_each_round(found: list[dict[str, Any]]) -> None:
    for number in (0, 1):
        drawn = [row for row in found if row["round"] == number]
        sentences = Counter(row["target"] for row in drawn if row["prompt_id"] not in TITLE_FORMS)
        assert sentences == Counter(row["sentence"] for row in sentence_rows())
        titles = Counter(row["target"] for row in drawn if row["prompt_id"] in TITLE_FORMS)
        assert titles == Counter({f"Title {item}": 3 for item in range(1, NUM_ITEMS + 1) if item % 10})
    assert [row["example_id"] for row in found] == list(range(len(found)))
    assert len({row["prompt_id"] for row in found}) == len(load_language())


def test_rows_are_of_the_explanation_family_and_show_no_photo(found: list[dict[str, Any]]) -> None:
    assert {row["family"] for row in found} == {"explanation"}
    assert {(row["split"], row["variant"]) for row in found} == {("train", "published")}
    for row in found:
        assert (row["target_item_id"], row["image_item_ids"], row["candidate_item_ids"]) == (None, [], None)
        assert "<extra_id_0>" not in row["source"]
        assert "Name" not in row["source"]
        assert "user" not in row["source"]


def test_a_sentence_stands_beside_its_word_item_and_stars(found: list[dict[str, Any]]) -> None:
    known = {row["sentence"]: row for row in sentence_rows()}
    for row in found:
        if row["prompt_id"] in TITLE_FORMS:
            continue
        sentence = known[row["target"]]
        item = sentence["item_id"]
        assert row["user_id"] == sentence["user_id"]
        assert f" {sentence['word']} " in f" {row['source']} "
        assert (f"<item_{item}>" in row["source"]) != (f"Title {item} " in row["source"])
        stars = int(sentence["rating"])
        named = any(f" {form} " in f" {row['source']} " for form in (f"{stars} stars", f"stars are {stars}"))
        assert ("stars" in row["source"]) == named
        if not item % 10:
            assert f"<item_{item}>" in row["source"]


def test_a_title_row_belongs_to_the_first_train_buyer(found: list[dict[str, Any]]) -> None:
    buyers: dict[int, int] = {}
    for user in range(1, NUM_USERS + 1):
        for item in sequence_of(user)[:-2]:
            buyers.setdefault(item, user)
    for row in found:
        if row["prompt_id"] in TITLE_FORMS:
            item = int(row["target"].removeprefix("Title "))
            assert f"<item_{item}>" in row["source"]
            assert row["user_id"] == buyers.get(item, 1)


def test_no_row_holds_a_valid_or_test_interaction(found: list[dict[str, Any]]) -> None:
    for row in found:
        if row["prompt_id"] not in TITLE_FORMS:
            assert int(row["target"].split(" for ")[1].split()[0]) in sequence_of(row["user_id"])[:-2]


def test_the_number_of_sentences_is_capped_by_the_seed(tmp_path: Path) -> None:
    params = {"max_language_rows": 10, "rows_per_part": 7}
    capped, again = made(tmp_path / "1", **params), made(tmp_path / "2", max_language_rows=10)
    assert capped == again
    assert len(capped) == 10 + TITLES
    chosen = {row["target"] for row in capped if row["prompt_id"] not in TITLE_FORMS}
    assert len(chosen) == 10
    assert len({row["user_id"] for row in capped if row["target"] in chosen}) > 2


@pytest.mark.parametrize(
    ("params", "expected"),
    [({"max_language_rows": 0}, 0), ({"titles_per_item": 0}, len(sentence_rows()))],
)
def test_zero_leaves_rows_out(params: dict[str, int], expected: int, tmp_path: Path) -> None:
    assert len(made(tmp_path, **params)) == expected


def test_a_dump_without_texts_gives_titles_alone(tmp_path: Path) -> None:
    context = write_dataset(tmp_path, explanations=[], sentences=[])
    prompts.run(prompts.Params(), context)
    assert {row["prompt_id"] for row in rows(context)} == TITLE_FORMS
    assert len(rows(context)) == TITLES


def test_a_file_of_templates_without_language_gives_an_empty_table(tmp_path: Path) -> None:
    text = Path(prompts.OWN_TEMPLATES).read_text(encoding="utf-8")
    own = tmp_path / "own.yaml"
    own.write_text(text.partition("\nlanguage:")[0], encoding="utf-8")
    assert made(tmp_path, templates=str(own)) == []


@pytest.mark.parametrize("name", ["max_language_rows", "titles_per_item"])
def test_a_negative_number_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="must be at least 0"):
        prompts.Params(**{name: -1})
    assert build(prompts.Params, {"max_language_rows": None}, where="prompts").max_language_rows is None
