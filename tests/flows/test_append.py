"""A month of reviews is appended: what was numbered keeps its number."""

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features import schema
from features.errors import TableError
from features.kept_codes import beside
from features.stage import Context
from features.tables import read_table
from pipelines import records, sequences
from pipelines.histories import kept_numbers

BEAM = {"runner": "FnApiRunner", "options": []}


def review(user: int, item: str, day: int) -> str:
    return json.dumps({
        "reviewerID": f"U{user}", "asin": item, "overall": 5.0, "unixReviewTime": day * 86_400, "reviewText": "Good.",
        "summary": "Good", "reviewerName": "A", "helpful": [0, 0],
    })  # fmt: skip


def numbered(root: Path, lines: list[str], **params: Any) -> dict[str, int]:
    """item_key to item_id after `records` and `sequences` of a dump of these lines."""
    place = root / "data/raw/d"
    place.mkdir(parents=True, exist_ok=True)
    (place / "r.json.gz").write_bytes(gzip.compress("\n".join(lines).encode() + b"\n"))
    entry = {"format": "amazon2014", "reviews": ["r.json.gz"], "metadata": []}
    context = Context(dataset="d", root=root, seed=7, shared={"datasets": entry, "beam": BEAM})
    records.run(records.Params(), context)
    sequences.run(sequences.Params(**{"k_core": 0} | params), context)
    rows = read_table(context.table("sequences/items"), schema.CATALOGUE).to_pylist()
    return {row["item_key"]: row["item_id"] for row in rows}


OLD = [review(user, f"B{(user + step) % 9}", step) for user in range(12) for step in range(4)]
NEW = [review(user, f"A{user % 3}", 100) for user in range(12)]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Mapping[str, int]]:
    root = tmp_path_factory.mktemp("before")
    return root, numbered(root, OLD)


def test_new_items_are_numbered_after_the_known_ones(before: tuple[Path, Mapping[str, int]], tmp_path: Path) -> None:
    folder = str(before[0] / "data/d/sequences/items")
    after = numbered(tmp_path, OLD + NEW, previous_items=folder)
    assert {key: after[key] for key in before[1]} == before[1]
    assert sorted(after[key] for key in ("A0", "A1", "A2")) == [10, 11, 12]
    assert numbered(tmp_path, OLD + NEW) != after


def test_the_same_data_with_the_numbers_kept_gives_the_same_bytes(
    before: tuple[Path, Mapping[str, int]], tmp_path: Path
) -> None:
    folder = before[0] / "data/d/sequences"
    assert numbered(tmp_path, OLD, previous_items=str(folder / "items")) == before[1]
    for table in ("items", "users", "interactions"):
        name = f"{table}/part-00000.parquet"
        assert (tmp_path / "data/d/sequences" / name).read_bytes() == (folder / name).read_bytes()


def test_an_item_that_left_keeps_its_number_without_interactions(
    before: tuple[Path, Mapping[str, int]], tmp_path: Path
) -> None:
    folder = str(before[0] / "data/d/sequences/items")
    without = [line for line in OLD if '"B3"' not in line]
    assert numbered(tmp_path, without, previous_items=folder) == before[1]
    rows = read_table(tmp_path / "data/d/sequences/items", schema.CATALOGUE).to_pylist()
    gone = next(row for row in rows if row["item_key"] == "B3")
    assert (gone["num_interactions"], gone["num_train"]) == (0, 0)


def test_kept_numbers_of_a_small_frame() -> None:
    kinds = {"item": pl.Int64, "item_id": pl.Int32, "num_interactions": pl.Int32, "num_train": pl.Int32}
    now = pl.DataFrame({"item": [5, 6], "item_key": ["B", "A"], "item_id": [1, 2], "num_interactions": [3, 4],
                        "num_train": [1, 2]}).cast(kinds)  # fmt: skip
    old = pl.DataFrame({"item_key": ["A", "C"], "item_id": [1, 2]}).cast({"item_id": pl.Int32})
    assert kept_numbers(now, old).select("item_key", "item_id", "num_interactions").rows() == [
        ("A", 1, 4), ("C", 2, 0), ("B", 3, 3)
    ]  # fmt: skip


def test_codes_of_known_items_stay_and_a_new_item_lies_beside_its_like() -> None:
    fresh = np.array([[0, 0], [1, 0], [1, 3], [1, 0], [9, 9]])
    codes, collisions = beside(fresh, [[5, 5, 0], [7, 2, 4]])
    assert codes.tolist() == [[5, 5, 0], [7, 2, 4], [7, 2, 5], [7, 2, 6], [5, 5, 1]]
    assert collisions == 3
    assert len(np.unique(codes, axis=0)) == 5


def test_codes_of_another_kind_are_refused() -> None:
    with pytest.raises(TableError, match=r"2 earlier codes of \[2\] parts for 3 items"):
        beside(np.zeros((3, 2), np.int64), [[1, 0], [1, 1]])
