"""Prompt tables: no leak, exact counts, and the same bytes for any number of workers."""

import itertools
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features import schema
from features.errors import ParamsError, TableError
from features.prompts.templates import load_templates
from features.runtime.params import build
from features.runtime.seeds import rng
from features.runtime.stage import Context
from features.store.tables import read_manifest, read_table
from pipelines import prompts
from pipelines.prompting import example_sampling, render_unit
from pipelines.prompting.config import YesNoShare
from tests.pipelines.prompt_tables import NUM_USERS, explanation_rows, number_of, sequence_of, write_dataset


def rows(context: Context, split: str, family: str) -> list[dict[str, Any]]:
    table = schema.prompts(split, family)
    found: list[dict[str, Any]] = read_table(context.table(table.name), table).to_pylist()
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Context:
    context = write_dataset(tmp_path_factory.mktemp("prompts"))
    assert prompts.run(prompts.Params(rounds=3, max_history=5), context) > 0
    return context


def test_tables_hold_the_planned_number_of_rows(made: Context) -> None:
    lengths = [user_id + 2 for user_id in range(1, NUM_USERS + 1)]
    assert len(rows(made, "train", "sequential")) == 3 * sum(length - 3 for length in lengths) == 198
    assert len(rows(made, "train", "direct")) == 3 * 4 * NUM_USERS
    train = [row for row in explanation_rows() if row["split"] == "train"]
    assert len(rows(made, "train", "explanation")) == 3 * len(train) == 126
    assert len(rows(made, "valid", "sequential")) == NUM_USERS
    assert len(rows(made, "test", "sequential")) == 2 * NUM_USERS
    assert len(rows(made, "test", "direct")) == 4 * NUM_USERS
    assert len(rows(made, "test", "explanation")) == 2 * NUM_USERS // 2


def test_the_manifest_says_what_explanation_prompts_give_away(made: Context) -> None:
    given = read_manifest(made.table("prompts/test/explanation"))["notes"]["given"]
    assert (given["C-1"], given["C-3"], given["C-12"]) == ([], ["rating"], ["feature", "rating"])
    assert read_manifest(made.table("prompts/test/direct"))["notes"] == {}


def test_train_prompts_hold_no_valid_or_test_item(made: Context) -> None:
    for family in ("sequential", "direct"):
        for row in rows(made, "train", family):
            items = sequence_of(row["user_id"])
            assert row["target_item_id"] in items[:-2]
            own = set(row["image_item_ids"]) & set(items)
            assert not own & set(items[-2:]), row
    test_pairs = {(r["user_id"], r["item_id"]) for r in explanation_rows() if r["split"] != "train"}
    for row in rows(made, "train", "explanation"):
        assert (row["user_id"], row["image_item_ids"][0]) not in test_pairs


def test_a_history_is_the_newest_items_before_the_target(made: Context) -> None:
    shown = {}
    for split in schema.SPLITS:
        for row in rows(made, split, "sequential"):
            items = sequence_of(row["user_id"])
            place = items.index(row["target_item_id"])
            history = row["image_item_ids"]
            if row["prompt_id"] in {"A-7", "A-8"}:
                assert (row["target"] == "yes") == (history[-1] == row["target_item_id"])
                history = history[:-1]
            assert history == items[max(0, place - 5) : place]
            shown[split, row["user_id"]] = place
    assert shown["valid", 12] == 12
    assert shown["test", 12] == 13


def test_candidates_are_the_target_and_unseen_items_shuffled(made: Context) -> None:
    seen = Counter()
    for split in schema.SPLITS:
        for row in rows(made, split, "direct"):
            if row["candidate_item_ids"] is None:
                continue
            candidates, items = row["candidate_item_ids"], set(sequence_of(row["user_id"]))
            assert len(set(candidates)) == len(candidates) == 100
            assert set(candidates) & items == {row["target_item_id"]}
            assert row["source"].count("<extra_id_0>") == 2 * len(row["image_item_ids"])
            seen[candidates.index(row["target_item_id"])] += 1
    assert len(seen) > 20
    stored = [row["candidate_item_ids"] for row in rows(made, "test", "direct") if row["user_id"] == 4]
    assert len({tuple(sorted(candidates)) for candidates in stored}) == 1
    assert len({tuple(candidates) for candidates in stored}) == 4


def test_held_out_prompts_are_only_in_test(made: Context) -> None:
    for split, family in (("train", "sequential"), ("train", "direct"), ("train", "explanation")):
        ids = {row["prompt_id"] for row in rows(made, split, family)}
        expected = {p.id for p in load_templates() if p.family == family and not p.held_out}
        assert ids == expected
    assert {row["prompt_id"] for row in rows(made, "valid", "direct")} == {"B-5"}
    assert [row["prompt_id"] for row in rows(made, "test", "sequential")][:4] == ["A-3", "A-9", "A-3", "A-9"]


def test_example_ids_count_through_rounds_and_users(made: Context) -> None:
    found = rows(made, "train", "direct")
    assert [row["example_id"] for row in found] == list(range(len(found)))
    assert [row["round"] for row in found] == sorted(row["round"] for row in found)
    first = [(r["prompt_id"], r["target"]) for r in found if r["round"] == 0]
    second = [(r["prompt_id"], r["target"]) for r in found if r["round"] == 1]
    assert first != second


def test_ratings_are_jittered_only_in_training_targets(made: Context) -> None:
    targets = [r["target"] for r in rows(made, "train", "explanation") if r["prompt_id"] in {"C-7", "C-8"}]
    assert targets
    assert all(target[1] == "." and target[3:6] == " , " for target in targets)
    shown = [r["source"] for r in rows(made, "train", "explanation") if r["prompt_id"] == "C-3"]
    assert all(
        " gave 1 " in s or " gave 2 " in s or " gave 3 " in s or " gave 4 " in s or " gave 5 " in s for s in shown
    )
    assert rows(made, "train", "explanation")[0]["target_item_id"] is None


def test_names_titles_and_headlines_stand_in_where_missing(made: Context) -> None:
    text = "\n".join(row["source"] for row in rows(made, "train", "direct") + rows(made, "train", "explanation"))
    assert "KEY3" in text
    assert "unknown title" in text
    assert "no headline" in text
    assert "Name 4 item_5" in text
    assert "<item_5> bought" not in text


def test_rows_depend_on_the_seed_and_not_on_the_unit_size(tmp_path: Path) -> None:
    """`beam/test_runner.py` compares runners and numbers of workers."""
    made = []
    for rows_per_part in (7, 30, 20_000):
        context = write_dataset(tmp_path / str(rows_per_part))
        prompts.run(prompts.Params(rows_per_part=rows_per_part, rounds=2), context)
        pairs = schema.PROMPT_TABLES
        made.append({pair: rows(context, *pair) for pair in pairs})
        parts = len(list(context.table("prompts/train/direct").glob("part-*")))
        assert (parts > 2) == (rows_per_part < 20_000)
    assert made[0] == made[1] == made[2]
    other = Context(dataset=context.dataset, root=context.root, seed=8, shared=context.shared)
    prompts.run(prompts.Params(rounds=2), other)
    assert rows(other, "train", "direct") != made[0]["train", "direct"]


def test_everything_works_without_explanations(tmp_path: Path) -> None:
    context = write_dataset(tmp_path, explanations=[])
    prompts.run(prompts.Params(), context)
    assert [len(rows(context, split, "explanation")) for split in schema.SPLITS] == [0, 0, 0]
    assert len(rows(context, "test", "direct")) == 4 * NUM_USERS


def test_caps_keep_the_same_users_in_every_family(tmp_path: Path) -> None:
    context = write_dataset(tmp_path)
    prompts.run(prompts.Params(max_valid_users=4, max_test_users=5, direct_variants=("published",)), context)
    users = {family: {r["user_id"] for r in rows(context, "valid", family)} for family in ("sequential", "direct")}
    assert len(users["sequential"]) == 4
    assert users["sequential"] == users["direct"]
    assert len(rows(context, "test", "direct")) == 5 * 2
    assert {row["variant"] for row in rows(context, "train", "direct")} == {"published"}


def test_yes_no_prompts_can_be_evaluated_too(tmp_path: Path) -> None:
    context = write_dataset(tmp_path)
    prompts.run(prompts.Params(evaluated=("A-8", "B-1")), context)
    found = rows(context, "test", "sequential") + rows(context, "test", "direct")
    assert {row["target"] for row in found} == {"yes", "no"}
    assert len(found) == 3 * NUM_USERS


def test_a_user_without_candidates_is_named(tmp_path: Path) -> None:
    context = write_dataset(tmp_path)
    job = prompts.make_job(prompts.Params(), context)
    job.sources().negatives["test"].starts[5] = -1
    unit = render_unit.Unit(
        split="test", family="direct", round=0, first_user=4, last_user=6, part=0, first_example_id=0
    )  # fmt: skip
    with pytest.raises(TableError, match="no candidates of user 5 in test"):
        render_unit.render_unit(job, unit)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"rounds": 0}, "rounds = 0 is below 1"),
        ({"max_history": 0}, "max_history = 0"),
        ({"yes_no_share": {"direct": 1.5}}, "direct = 1.5 is not a share"),
        ({"direct_variants": ["publshed"]}, "published"),
        ({"direct_variants": []}, "direct_variants"),
        ({"histroy_kept": "newest"}, "history_kept"),
    ],
)
def test_a_parameter_out_of_range_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        build(prompts.Params, values, where="prompts")


def test_an_unknown_evaluated_prompt_is_named() -> None:
    with pytest.raises(ParamsError, match=r"prompts.evaluated A-33.*A-3"):
        prompts.check_evaluated(prompts.Params(evaluated=("A-33",)))


@pytest.mark.parametrize("length", [5, 6, 7, 8, 20])
def test_last_three_draws_the_published_windows(length: int) -> None:
    """Spec 3.2: last history position in max(2, n-5)..n-3, first in 1..min(3, last-1), target right after."""
    generator = rng(1, "windows", length)
    pairs = example_sampling.train_positions(length, "last_three", 3000, generator)
    lasts = range(max(2, length - 5), length - 3 + 1)
    expected = {(first - 1, last) for last in lasts for first in range(1, min(3, last - 1) + 1)}
    assert set(pairs) == expected
    assert max(target for _, target in pairs) == length - 3  # the last training item, counted from 0


def test_all_positions_targets_each_item_but_the_first_once() -> None:
    assert example_sampling.train_positions(6, "all_positions", 0, rng(1)) == [(0, 1), (0, 2), (0, 3)]
    for length in range(1, 9):
        for mode in ("all_positions", "last_three"):
            drawn = example_sampling.train_positions(length, mode, 4, rng(1))
            assert len(drawn) == example_sampling.num_train_positions(np.array([length]), mode, 4)[0]


def test_a_window_keeps_the_chosen_end() -> None:
    past: Sequence[int] = [5, 17, 203]
    assert example_sampling.Window(max_history=2, kept="newest").cut(past) == [17, 203]
    assert example_sampling.Window(max_history=2, kept="oldest").cut(past) == [5, 17]
    assert example_sampling.Window(max_history=None, kept="newest").cut(past) == past


def test_the_share_of_yes_no_prompts_is_the_parameter() -> None:
    direct = [prompt for prompt in load_templates() if prompt.family == "direct" and not prompt.held_out]
    draws = rng(5).random((4000, 2)).tolist()
    for share, expected in ((None, 4 / 7), (0.2, 0.2), (0.0, 0.0), (1.0, 1.0)):
        mix = example_sampling.PromptMix.of(direct, share)
        drawn = [mix.sample(group, within) for group, within in draws]
        assert sum(prompt.asks_yes_no for prompt in drawn) / len(drawn) == pytest.approx(expected, abs=0.03)


def test_ranges_bound_the_rows_of_a_part() -> None:
    found = list(prompts.ranges(np.array([0, 2, 0, 3, 1, 9, 1]), 4))
    assert found == [(1, 1, 2), (3, 4, 4), (5, 5, 9), (6, 6, 1)]
    assert list(prompts.ranges(np.zeros(3, dtype=np.int64), 4)) == []


def test_published_settings_draw_ten_training_windows_per_user(tmp_path: Path) -> None:
    context = write_dataset(tmp_path)
    shares = YesNoShare(sequential=None, direct=None)
    params = prompts.Params(
        sequential="last_three",
        max_history=None,
        yes_no_share=shares,
        direct_per_user=10,
        direct_variants=("published",),
    )
    prompts.run(params, context)
    found = rows(context, "train", "sequential")
    assert len(found) == 10 * (NUM_USERS - 2)  # users 1 and 2 have fewer than 5 items
    for row in found:
        items = sequence_of(row["user_id"])
        assert row["target_item_id"] in items[-5:-2]
        assert not set(row["image_item_ids"]) & set(items[-2:])
    assert len(rows(context, "train", "direct")) == 10 * NUM_USERS


def test_prompts_write_the_users_number_and_never_the_join_key(made: Context) -> None:
    written = [
        (row["user_id"], found.group(1))
        for split, family in itertools.product(schema.SPLITS, schema.FAMILIES)
        for row in rows(made, split, family)
        if (found := re.search(r"user_(\d+)", row["source"]))
    ]
    assert {user_id for user_id, _ in written} == set(range(1, NUM_USERS + 1))
    assert all(int(number) == number_of(user_id) for user_id, number in written)
