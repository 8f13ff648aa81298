"""Leakage checks: each detects its leak and reports nothing on clean data."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from features import schema
from features.errors import TableError
from features.store.tables import from_rows, write_table
from modeling.data.user_histories import known_before_test
from modeling.evaluation.leakage import (
    copied_prompts,
    copies_in_family,
    leakage_block,
    out_of_time_order,
    pairs_in_train,
)
from modeling.evaluation.result_tables import number_rule_line
from tests.modeling.baselines.test_counting import SEQUENCES, interactions
from tests.modeling.world import MADE

NUM_ITEMS = 6
NO_PAIR = {
    "test_pairs_in_train": 0.0,
    "test_pairs_in_train_targets": 0.0,
    "test_pairs_in_train_photos": 0.0,
    "test_pairs_in_train_by_family": dict.fromkeys(schema.FAMILIES, 0.0),
}


def row(user: int, target: int | None, shown: list[int], text: str = "x", answer: str = "y") -> dict[str, Any]:
    return {
        "prompt_id": "A-1", "variant": "published", "round": 0, "user_id": user, "target_item_id": target,
        "image_item_ids": shown, "candidate_item_ids": None, "source": text, "target": answer,
    }  # fmt: skip


def write_prompts(root: Path, tables: dict[str, list[dict[str, Any]]]) -> Path:
    for split in schema.SPLITS:
        for family in schema.FAMILIES:
            table = schema.prompts(split, family)
            rows = tables.get(f"{split}/{family}", [])
            made = [dict(r, example_id=i, split=split, family=family) for i, r in enumerate(rows)]
            write_table(root / split / family, table, from_rows(table, made), MADE)
    return root


def test_clean_prompts_hold_no_test_pair(tmp_path: Path) -> None:
    tables = {"train/sequential": [row(1, 3, [1, 2]), row(2, 4, [1, 2])], "train/explanation": [row(3, None, [1])]}
    prompts = write_prompts(tmp_path, tables)
    assert pairs_in_train(prompts / "train", known_before_test(interactions(SEQUENCES)), NUM_ITEMS) == NO_PAIR
    assert copied_prompts(prompts, "test", "train") == 0


def test_test_pairs_are_found_as_targets_and_as_photos(tmp_path: Path) -> None:
    tables = {"train/sequential": [row(1, 5, [1, 2])], "train/explanation": [row(2, None, [6])]}
    prompts = write_prompts(tmp_path, tables)
    histories = known_before_test(interactions(SEQUENCES))
    third = pytest.approx(1 / 3)
    assert pairs_in_train(prompts / "train", histories, NUM_ITEMS) == {
        "test_pairs_in_train": pytest.approx(2 / 3),
        "test_pairs_in_train_targets": third,
        "test_pairs_in_train_photos": third,
        "test_pairs_in_train_by_family": {"sequential": third, "direct": 0.0, "explanation": third},
    }


def test_negatives_are_no_leak(tmp_path: Path) -> None:
    tables = {"train/direct": [row(1, 5, [5], answer="no"), row(2, 4, [6, 4, 1])]}
    prompts = write_prompts(tmp_path, tables)
    assert pairs_in_train(prompts / "train", known_before_test(interactions(SEQUENCES)), NUM_ITEMS) == NO_PAIR


def test_copies_must_agree_in_source_and_target(tmp_path: Path) -> None:
    tables = {
        "train/direct": [row(1, 4, [], "a", "b"), row(1, 4, [], "a", "c")],
        "test/direct": [row(1, 4, [], "a", "b"), row(1, 4, [], "a", "d"), row(2, 4, [], "a", "c")],
        "test/sequential": [row(1, 4, [], "a", "b")],
    }
    prompts = write_prompts(tmp_path, tables | {"valid/direct": [row(1, 4, [], "a", "d")]})
    assert copied_prompts(prompts, "test", "train") == 2
    assert copied_prompts(prompts, "test", "valid") == 1
    assert copied_prompts(prompts, "valid", "train") == 0


def test_a_train_interaction_after_the_test_one_is_found() -> None:
    table = interactions(SEQUENCES)
    assert out_of_time_order(table) == 0
    times = table["timestamp"].to_numpy().copy()
    times[1] = 10_000
    late = table.set_column(table.schema.get_field_index("timestamp"), table.schema.field("timestamp"), [times])
    assert out_of_time_order(late) == 1
    assert out_of_time_order(interactions(SEQUENCES, timestamps=False)) is None


def block(
    tmp_path: Path,
    ranks: list[int],
    numbering: str,
    near: tuple[int, ...] = (0,) * 50,
    *,
    targets: list[int] | None = None,
    tables: dict[str, list[dict[str, Any]]] | None = None,
) -> dict[str, Any]:
    return leakage_block(
        rule_ranks=np.array(ranks),
        rule_targets=np.array(targets or range(1, len(ranks) + 1)),
        neighbours=(np.array(near), np.zeros(len(near), np.int64)),
        num_items=1000,
        histories=known_before_test(interactions(SEQUENCES)),
        interactions=interactions(SEQUENCES),
        prompts=write_prompts(tmp_path, tables or {}),
        numbering=numbering,
        max_copied_share=0.05,
        resamples=200,
        seed=1,
    )


def test_a_rule_that_hits_far_above_chance_leaks(tmp_path: Path) -> None:
    found = block(tmp_path, [1, 1, 2, 0, 0] * 40, "random")
    assert found["leaking"]
    assert found["number_rule_hr@1"] == 0.4
    assert number_rule_line(found) == (
        "number rule (largest number in the history + 1): HR@1 0.4000, HR@10 0.6000 \N{EM DASH} LEAKS (random)"
    )


def test_a_rule_at_chance_does_not_leak(tmp_path: Path) -> None:
    found = block(tmp_path, [500, 0, 0, 7] + [0] * 196, "random")
    assert not found["leaking"]
    assert number_rule_line(found).endswith("\N{EM DASH} no leak detected (random)")


def test_one_popular_successor_item_is_no_leak_of_item_numbers(tmp_path: Path) -> None:
    hits = [1] * 40 + [0] * 160
    assert block(tmp_path, hits, "random")["numbers_leak"]  # forty items
    assert not block(tmp_path, hits, "random", targets=[7] * 40 + list(range(8, 168)))["numbers_leak"]  # one item


def test_a_ranking_leak_has_a_reason_and_spares_explanations(tmp_path: Path) -> None:
    found = block(tmp_path, [1, 1, 2, 0, 0] * 40, "random")
    reason = (
        "ranking: item numbers (random) reveal the next item: counting up from the largest number of the history finds "
        "40.0 % at once and 60.0 % within ten steps (by chance 0.1 % and 1.0 %)"
    )
    assert found["sequential"]["reasons"] == found["direct"]["reasons"] == found["reasons"] == [reason]
    assert (found["sequential"]["leaks"], found["explanation"]["leaks"]) == (True, False)


def explained(user: int, item: int, text: str = "x", answer: str = "y") -> dict[str, Any]:
    return row(user, None, [item], text, answer)


def test_few_pasted_reviews_are_counted_and_no_leak(tmp_path: Path) -> None:
    tables = {
        "train/explanation": [explained(1, 2, "why ?", "it is fine")],
        "test/explanation": [
            explained(1, 3, "why ?", "it is fine"),
            *(explained(2, 3, str(number), "good") for number in range(39)),
        ],
    }
    found = block(tmp_path, [0] * 50, "random", tables=tables)
    own = {"test_prompts": 40, "copied_prompts": 1, "copied_share": 0.025, "pairs_in_train": 0}
    assert found["explanation"] == {"leaks": False, "reasons": [], **own}
    assert (found["leaking"], found["reasons"]) == (False, [])
    assert found["test_prompts_in_train"] == 1


def test_too_many_copied_explanations_leak_in_that_family_alone(tmp_path: Path) -> None:
    tables = {
        "train/explanation": [explained(1, 2, "why ?", "it is fine")],
        "test/explanation": [explained(1, 3, "why ?", "it is fine"), explained(2, 3), explained(2, 4)],
    }
    found = block(tmp_path, [0] * 50, "random", tables=tables)
    reason = "explanation: 1 of 3 test prompts (33.3 %) are word for word in train (allowed: 5.0 %)"
    assert found["explanation"]["reasons"] == found["reasons"] == [reason]
    assert [found[family]["leaks"] for family in schema.FAMILIES] == [False, False, True]
    assert found["leaking"]


def test_one_explanation_of_the_same_user_and_item_is_a_leak(tmp_path: Path) -> None:
    tables = {
        "train/explanation": [explained(1, 3, "in other words ?", "it is fine")],
        "test/explanation": [explained(1, 3, "why ?", "it is fine"), *(explained(2, 4, str(n)) for n in range(99))],
    }
    found = block(tmp_path, [0] * 50, "random", tables=tables)["explanation"]
    reason = "about a user and item that train prompts of this family are about (allowed: none)"
    assert found["reasons"] == [f"explanation: 1 of 100 test prompts are {reason}"]
    assert found["copied_prompts"] == 0


def test_copies_of_namesakes_and_negatives_are_no_pairs(tmp_path: Path) -> None:
    named = "History of Amazon Customer : 1 , 2 . Next item ?"
    tables = {
        "train/direct": [row(1, 3, [1, 2, 3], named, "3"), row(1, 6, [6], "Does 6 suit user_1 ?", "no")],
        "test/direct": [
            row(2, 3, [1, 2, 3], named, "3"),
            row(1, 6, [6], "Does 6 suit user_1 ?", "no"),
            *(row(3, 4, [1], str(number), "4") for number in range(29)),
        ],
    }
    prompts = write_prompts(tmp_path, tables)
    counts = copies_in_family(prompts, "direct")
    assert (counts["test_prompts"], counts["copied_prompts"], counts["pairs_in_train"]) == (30, 1, 0)
    assert not block(tmp_path, [0] * 50, "random", tables=tables)["leaking"]


def test_p5_numbering_leaks_whatever_it_scores(tmp_path: Path) -> None:
    assert block(tmp_path, [0] * 50, "p5")["numbers_leak"]


def test_user_numbers_whose_neighbours_share_items_leak(tmp_path: Path) -> None:
    found = block(tmp_path, [0] * 50, "random", near=(1, 0, 0, 9, 0) * 40)
    assert found["user_numbers_leak"]
    assert found["leaking"]
    assert found["user_neighbours_hr@10"] == 0.4
    assert not block(tmp_path, [0] * 50, "random", near=(1,) + (0,) * 199)["user_numbers_leak"]


def test_a_part_that_differs_from_its_manifest_is_an_error(tmp_path: Path) -> None:
    prompts = write_prompts(tmp_path, {"train/sequential": [row(1, 3, [1, 2])]})
    part = tmp_path / "train/sequential/part-00000.parquet"
    whole = bytearray(part.read_bytes())
    whole[len(whole) // 3] ^= 1
    part.write_bytes(bytes(whole))
    with pytest.raises(TableError, match="changed since its manifest"):
        copied_prompts(prompts, "train", "test")
