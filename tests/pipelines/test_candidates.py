from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import schema
from features.errors import TableError
from features.runtime.stage import Context
from features.store import tables
from pipelines import candidates


def written(root: Path, histories: list[list[int]], num_items: int) -> Context:
    """A context whose sequences hold these histories over items 1..num_items."""
    context = Context(dataset="tiny", root=root, seed=5, shared={})
    items = [
        {
            "item_id": n, "item_key": f"B{n}", "title": None, "brand": None, "category": None,
            "num_interactions": 1, "num_train": 1,
        }
        for n in range(1, num_items + 1)
    ]  # fmt: skip
    interactions = [
        {
            "user_id": user, "position": position, "item_id": item, "rating": None, "timestamp": None,
            "split": "test" if position == len(history) else "valid" if position == len(history) - 1 else "train",
        }
        for user, history in enumerate(histories, 1)
        for position, item in enumerate(history, 1)
    ]  # fmt: skip
    provenance = tables.Provenance(stage="sequences", params={})
    for table, rows in ((schema.CATALOGUE, items), (schema.INTERACTIONS, interactions)):
        tables.write_table(context.table(table.name), table, tables.from_rows(table, rows), provenance)
    return context


def test_every_user_has_99_distinct_unseen_items_per_split(tmp_path: Path) -> None:
    histories = [[1, 2, 3], [4, 5, 6, 7], [300, 299, 1, 2, 3]]
    context = written(tmp_path, histories, 300)
    assert candidates.run(candidates.Params(), context) == 6
    table = tables.read_table(context.table("candidates"), schema.CANDIDATES)
    assert table.column("split").to_pylist() == ["test", "valid"] * 3
    for row in table.to_pylist():
        assert len(set(row["item_ids"])) == 99
        assert row["item_ids"] == sorted(row["item_ids"])
        assert set(row["item_ids"]).isdisjoint(histories[row["user_id"] - 1])
        assert 1 <= min(row["item_ids"]) <= max(row["item_ids"]) <= 300
    lists = table.column("item_ids").to_pylist()
    assert lists[0] != lists[1]


def test_a_second_run_writes_the_same_bytes(tmp_path: Path) -> None:
    context = written(tmp_path, [[1, 2, 3], [4, 5, 6]], 120)
    made = []
    for _ in range(2):
        candidates.run(candidates.Params(), context)
        made.append({path.name: path.read_bytes() for path in context.table("candidates").iterdir()})
    assert made[0] == made[1]


@given(
    st.lists(st.lists(st.integers(1, 40), min_size=3, max_size=12, unique=True), min_size=1, max_size=6),
    st.integers(1, 28),
    st.integers(40, 200),
)
@settings(max_examples=100, deadline=None)
def test_candidates_are_disjoint_from_the_history(histories: list[list[int]], count: int, num_items: int) -> None:
    user_ids = np.repeat(np.arange(1, len(histories) + 1), [len(history) for history in histories])
    users, drawn = candidates.draw(user_ids, np.concatenate(histories), num_items, count, 3)
    assert users.tolist() == list(range(1, len(histories) + 1))
    assert drawn.shape == (2 * len(histories), count)
    for row, items in enumerate(drawn.tolist()):
        assert len(set(items)) == count
        assert set(items) <= set(range(1, num_items + 1)) - set(histories[row // 2])


def test_the_draw_of_a_user_does_not_depend_on_other_users() -> None:
    both = candidates.draw(np.array([1, 1, 1, 2, 2, 2]), np.array([1, 2, 3, 4, 5, 6]), 500, 9, 3)[1]
    alone = candidates.draw(np.array([2, 2, 2]), np.array([4, 5, 6]), 500, 9, 3)[1]
    assert both[2:].tolist() == alone.tolist()


def test_a_user_with_few_unseen_items_changes_no_other_user() -> None:
    history = np.arange(1, 481)
    both = candidates.draw(np.repeat([1, 2], [480, 3]), np.append(history, [4, 5, 6]), 500, 9, 3)[1]
    alone = candidates.draw(np.array([2, 2, 2]), np.array([4, 5, 6]), 500, 9, 3)[1]
    assert both[2:].tolist() == alone.tolist()


def test_blocks_and_parts_change_no_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = written(tmp_path, [[1 + user, 40 + 2 * user, 2 + user] for user in range(23)], 500)
    found = []
    for users_at_once, rows_per_part in ((4096, 10**6), (5, 14)):
        monkeypatch.setattr(candidates, "_USERS_AT_ONCE", users_at_once)
        monkeypatch.setattr(tables, "ROWS_PER_PART", rows_per_part)
        assert candidates.run(candidates.Params(), context) == 46
        found.append(tables.read_table(context.table("candidates"), schema.CANDIDATES))
    assert found[0].equals(found[1])
    assert len(tables.read_manifest(context.table("candidates"))["parts"]) == 4


@pytest.mark.parametrize("num_items", [30, 200])
def test_every_unseen_item_is_drawn_about_as_often(num_items: int) -> None:
    num_users = 4000
    user_ids, item_ids = np.repeat(np.arange(1, num_users + 1), 3), np.tile([1, 2, 3], num_users)
    _, drawn = candidates.draw(user_ids, item_ids, num_items, 9, 3)
    counts = np.bincount(drawn.ravel(), minlength=num_items + 1)
    expected = 2 * num_users * 9 / (num_items - 3)
    assert counts[:4].tolist() == [0, 0, 0, 0]
    assert np.abs(counts[4:] - expected).max() < 5 * np.sqrt(expected)


def test_a_catalogue_that_is_too_small_is_one_clear_line(tmp_path: Path) -> None:
    context = written(tmp_path, [[1, 2, 3]], 50)
    with pytest.raises(
        TableError, match=r"1 of 1 users.*user 1 with 47 in a catalogue of 50.*candidates\.num_negatives to 47 or less"
    ):
        candidates.run(candidates.Params(), context)
    assert not context.table("candidates").exists()


def test_the_table_is_the_declared_one(tmp_path: Path) -> None:
    context = written(tmp_path, [[1, 2, 3]], 20)
    candidates.run(candidates.Params(num_negatives=2), context)
    table = tables.read_table(context.table("candidates"), schema.CANDIDATES)
    assert table.schema.field("item_ids").type.value_type == pa.int32()
