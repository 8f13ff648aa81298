"""Stage `explanations`: aspects from the train split only, one sentence per review, empty without texts."""

import itertools
import json
import logging
import pickle
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from features import schema
from features.errors import ParamsError, TableError
from features.runtime.params import build
from features.runtime.stage import Context
from features.store.tables import Provenance, from_rows, read_table, write_table
from pipelines import explanations, records, sequences
from pipelines.aspects import extraction, two_passes
from pipelines.aspects.extraction import Mention

NUM_USERS, LENGTH = 8, 5
PARAMS = explanations.Params(min_reviews=2, min_review_share=0.0, reviews_per_unit=7)


def text_of(user_id: int, position: int) -> str | None:
    """Every review praises the clasp; only valid and test reviews speak of the hinge; one has no text."""
    if (user_id, position) == (1, 1):
        return None
    hinge = " The hinge is really wonderful." if position > LENGTH - 2 else ""
    return f"I bought it in week {position}. The clasp of number {user_id} is great.{hinge}"


def write_reviews(root: Path, *, texts: bool = True) -> Context:
    """Reviews and sequences of 8 users with 5 items each, every line twice."""
    context = Context(dataset="made_up", root=root, seed=7, shared={"beam": {"runner": "FnApiRunner", "options": []}})
    reviews, interactions = [], []
    for user_id, position in itertools.product(range(1, NUM_USERS + 1), range(1, LENGTH + 1)):
        item_id = (user_id + position) % 9 + 1
        known = {"rating": 5.0, "timestamp": 1000 + position} if texts else {"rating": None, "timestamp": None}
        review = known | {
            "user_key": f"U{user_id}", "item_key": f"I{item_id}", "user_name": None, "headline": "Fine",
            "text": text_of(user_id, position) if texts else None, "helpful_votes": None, "source": "dump.gz",
            "position": 0,
        }  # fmt: skip
        line = 10 * user_id + position
        reviews += [review | {"line": line}, review | {"line": line + 100}]
        split = {LENGTH: "test", LENGTH - 1: "valid"}.get(position, "train")
        interactions.append(known | {"user_id": user_id, "position": position, "item_id": item_id, "split": split})
    users = [
        {"user_id": n, "user_key": f"U{n}", "name": None, "number": n, "num_interactions": 5}
        for n in range(1, NUM_USERS + 1)
    ]
    items = [
        {
            "item_id": n, "item_key": f"I{n}", "title": "Bracelet", "brand": None, "category": None,
            "num_interactions": 1, "num_train": 1,
        }
        for n in range(1, 10)
    ]  # fmt: skip
    rows: dict[schema.Table, list[dict[str, Any]]] = {
        schema.REVIEWS: reviews, schema.INTERACTIONS: interactions, schema.USERS: users, schema.CATALOGUE: items,
    }  # fmt: skip
    for table, values in rows.items():
        write_table(context.table(table.name), table, from_rows(table, values), Provenance(stage="test", params={}))
    return context


def rows_of(context: Context, table: schema.Table = schema.EXPLANATIONS) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = read_table(context.table(table.name), table).to_pylist()
    return found


def job_of(params: explanations.Params, aspect_words: frozenset[str] | None = None) -> two_passes.Job:
    return two_passes.Job(
        params=params, seed=7, scratch=Path(), folder=Path(), sentences_folder=Path(), aspect_words=aspect_words
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Context:
    context = write_reviews(tmp_path_factory.mktemp("explanations"))
    assert explanations.run(PARAMS, context) == NUM_USERS * LENGTH - 1
    return context


def test_each_review_with_a_text_gives_its_best_sentence_once(made: Context) -> None:
    found = rows_of(made)
    assert found[0] == {
        "user_id": 1, "item_id": 4, "rating": 5.0, "headline": "Fine", "feature": "clasp",
        "sentence": "The clasp of number 1 is great.", "split": "train",
    }  # fmt: skip
    assert len({(row["user_id"], row["item_id"]) for row in found}) == len(found)
    assert not made.table(".explanations.scratch").exists()


def test_a_noun_of_valid_and_test_reviews_alone_is_no_aspect(made: Context) -> None:
    assert {row["feature"] for row in rows_of(made)} == {"clasp"}


def test_the_split_is_that_of_the_interaction(made: Context) -> None:
    counts = {split: sum(row["split"] == split for row in rows_of(made)) for split in schema.SPLITS}
    assert counts == {"train": 3 * NUM_USERS - 1, "valid": NUM_USERS, "test": NUM_USERS}


def test_sentences_are_those_of_train_reviews_alone(made: Context) -> None:
    found = rows_of(made, schema.SENTENCES)
    train = [
        (user, place) for user in range(1, NUM_USERS + 1) for place in range(1, LENGTH - 1) if (user, place) != (1, 1)
    ]
    expected = {
        (user, (user + place) % 9 + 1, sentence)
        for user, place in train
        for sentence in (f"I bought it in week {place}.", f"The clasp of number {user} is great.")
    }
    assert {(row["user_id"], row["item_id"], row["sentence"]) for row in found} == expected
    assert len(found) == len(expected)
    assert "hinge" not in str(found)
    assert {row["rating"] for row in found} == {5.0}


def test_the_word_of_a_sentence_is_a_content_word_by_the_seed(made: Context) -> None:
    words = {row["word"] for row in rows_of(made, schema.SENTENCES)}
    assert words == {"week", "clasp", "number", "great"}


def test_sentences_too_short_too_long_or_without_a_noun_are_left_out() -> None:
    review = {"user_id": 1, "item_id": 2, "rating": 4.0, "split": "train"}
    texts = ["Great clasp.", "I do.", "It is a clasp.", "The clasp is really very great.", "But then it was."]
    tagged = [(text, extraction.tag(text)) for text in texts]
    rows = list(two_passes.usable_sentences(review, tagged, job_of(explanations.Params(max_words=5))))
    assert [row["sentence"] for row in rows] == ["It is a clasp."]
    assert rows[0] == {"user_id": 1, "item_id": 2, "rating": 4.0, "word": "clasp", "sentence": "It is a clasp."}


def test_an_independent_split_keeps_its_test_sentences_out_of_sentences() -> None:
    job = job_of(explanations.Params(split="independent"))
    tagged = [("It is a clasp.", extraction.tag("It is a clasp."))]
    for item in range(40):
        review = {"user_id": 1, "item_id": item, "rating": 4.0, "split": "train"}
        assert len(list(two_passes.usable_sentences(review, tagged, job))) == (
            two_passes.split_of(review, job) == "train"
        )


def test_an_independent_split_is_seeded() -> None:
    job = job_of(explanations.Params(split="independent"))
    drawn = [
        two_passes.split_of({"user_id": user, "item_id": item, "split": "train"}, job)
        for user in range(100)
        for item in range(20)
    ]
    shares = {split: drawn.count(split) / len(drawn) for split in schema.SPLITS}
    assert shares == pytest.approx({"train": 0.8, "valid": 0.1, "test": 0.1}, abs=0.02)


def test_the_same_bytes_again_and_with_two_workers(made: Context, tmp_path: Path) -> None:
    context = write_reviews(tmp_path)
    options = ["--direct_num_workers=2", "--direct_running_mode=multi_processing"]
    shared = {"beam": {"runner": "FnApiRunner", "options": options}}
    explanations.run(PARAMS, Context(dataset="made_up", root=tmp_path, seed=7, shared=shared))
    for table in ("explanations", "sentences"):
        one = {path.name: path.read_bytes() for path in made.table(table).glob("part-*")}
        two = {path.name: path.read_bytes() for path in context.table(table).glob("part-*")}
        assert len(one) > 1
        assert one == two


def test_the_unit_size_changes_no_sentence(made: Context, tmp_path: Path) -> None:
    context = write_reviews(tmp_path)
    explanations.run(replace(PARAMS, reviews_per_unit=5000), context)
    assert rows_of(context, schema.SENTENCES) == rows_of(made, schema.SENTENCES)


def test_a_dump_without_texts_gives_empty_tables(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = write_reviews(tmp_path, texts=False)
    with caplog.at_level(logging.WARNING, logger="vip5"):
        assert explanations.run(PARAMS, context) == 0
    assert rows_of(context) == rows_of(context, schema.SENTENCES) == []
    [line] = caplog.messages
    assert "no sentence of 3 words or more" in line


def test_a_category_without_an_aspect_is_told_in_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = write_reviews(tmp_path)
    with caplog.at_level(logging.WARNING, logger="vip5"):
        assert explanations.run(replace(PARAMS, min_reviews=1000), context) == 0
    assert len(rows_of(context, schema.SENTENCES)) > 0
    [line] = caplog.messages
    assert "no aspect found in 23 train reviews" in line
    least = int(re.search(r"set explanations\.min_reviews to (\d+) \(the aspect", line)[1])  # type: ignore[index]
    assert explanations.run(replace(PARAMS, min_reviews=least), context) > 0


def write_bundle(root: Path) -> Context:
    """A published p5 folder of four users and three items, processed up to `sequences`.

    All reviews of `exp_splits.pkl` are in its list `train`; user 4 and the pair (3, 3) have none.
    """
    entry = {"format": "p5", "reviews": ["sequential_data.txt", "datamaps.json", "exp_splits.pkl"], "metadata": []}
    shared = {"datasets": entry, "beam": {"runner": "FnApiRunner", "options": []}}
    context = Context(dataset="made_up", root=root, seed=7, shared=shared)
    orders = {user: [(user + place) % 3 + 1 for place in range(3)] for user in range(1, 5)}
    explained = [
        {
            "reviewerID": f"U{user}", "asin": f"I{item}", "reviewerName": "Kelo", "helpful": [0, 0], "overall": 4.0,
            "summary": "Fine &amp; dry", "unixReviewTime": 1393545600, "reviewText": "The clasp is great. The lid too.",
            "feature": "lid", "explanation": f"the lid of {item} &amp; its knob", "sentence": [("lid", "good", 1)],
        }
        for user, items in orders.items()
        for item in items
        if user != 4 and (user, item) != (3, 3)
    ]  # fmt: skip
    maps = {"id2user": {str(n): f"U{n}" for n in orders}, "id2item": {str(n): f"I{n}" for n in range(1, 4)}}
    context.raw.mkdir(parents=True)
    lines = [" ".join(map(str, (user, *items))) for user, items in orders.items()]
    (context.raw / "sequential_data.txt").write_text("\n".join(lines) + "\n")
    (context.raw / "datamaps.json").write_text(json.dumps(maps))
    (context.raw / "exp_splits.pkl").write_bytes(pickle.dumps({"train": explained, "val": [], "test": []}, 3))
    records.run(records.Params(), context)
    sequences.run(sequences.Params(k_core=3, numbering="p5"), context)
    return context


def test_a_published_bundle_gives_its_own_sentences(tmp_path: Path) -> None:
    context = write_bundle(tmp_path)
    assert explanations.run(PARAMS, context) == 8
    keys = {
        row["item_id"]: row["item_key"]
        for row in read_table(context.table("sequences/items"), schema.CATALOGUE).to_pylist()
    }
    splits = {
        (row["user_id"], row["item_id"]): row["split"]
        for row in read_table(context.table("sequences/interactions"), schema.INTERACTIONS).to_pylist()
    }
    found = {(row["user_id"], keys[row["item_id"]]): row for row in rows_of(context)}
    assert found.keys() == {(user, f"I{item}") for user in (1, 2, 3) for item in (1, 2, 3)} - {(3, "I3")}
    for (_, item), row in found.items():
        assert (row["feature"], row["sentence"]) == ("lid", f"the lid of {item[1]} & its knob")
        assert (row["rating"], row["headline"]) == (4.0, "Fine & dry")
        assert row["split"] == splits[row["user_id"], row["item_id"]]
    assert {row["split"] for row in found.values()} == set(schema.SPLITS)


def test_a_missing_table_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    shared = {"beam": {"runner": "FnApiRunner", "options": []}}
    context = Context(dataset="made_up", root=tmp_path, seed=7, shared=shared)
    with pytest.raises(TableError, match=r"no table at .*records/reviews"):
        explanations.run(PARAMS, context)
    assert not context.table(".explanations.scratch").exists()
    assert not context.table("explanations").exists()


def test_choose_prefers_evidence_then_short_sentences() -> None:
    params = explanations.Params(per_review=2, min_words=2, max_words=6, min_score=2.5)
    words = frozenset({"base", "lid"})
    job = job_of(params, words)

    def mention(feature: str, sentence: str, score: float) -> Mention:
        return Mention(feature=feature, sentence=sentence, opinion="good", polarity=0.5, score=score)

    best, second = mention("base", "a good base", 4.0), mention("lid", "a good lid", 3.0)
    rest = [
        mention("base", "a very good base", 4.0), mention("knob", "a good knob", 9.0), mention("lid", "a lid", 2.0),
        mention("lid", "good", 9.0), mention("lid", "a good lid with very many words", 9.0),
    ]  # fmt: skip
    assert two_passes.choose([*rest, second, best], job) == [best, second]


def test_product_types_and_nouns_without_opinions_are_no_aspects() -> None:
    counts = {
        "reviews": {"tone": 9, "strap": 9, "week": 9, "rare": 2},
        "opinions": {"tone": 5, "strap": 5, "week": 1, "rare": 2},
        "titles": {"strap": 8},
    }
    found = two_passes.frequent_aspects([counts], min_reviews=3, min_opinion_share=0.2, max_title_share=0.5)
    assert found == {"tone"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"min_words": 9, "max_words": 4}, "min_words = 9"),
        ({"per_review": 0}, "per_review = 0"),
        ({"min_opinion_share": 2.0}, "min_opinion_share = 2.0"),
        ({"split": "indepedent"}, "independent"),
    ],
)
def test_a_parameter_out_of_range_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        build(explanations.Params, values, where="explanations")
