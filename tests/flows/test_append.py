"""After a month of reviews is appended, known users and items keep their ids."""

import gzip
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from features import images, schema
from features.errors import TableError
from features.item_codes.stable_codes import extend_codes
from features.runtime.stage import Context
from features.store.embeddings import read_vectors
from features.store.tables import read_table
from modeling.data.user_histories import known_before_test
from modeling.evaluation.user_id_leakage import neighbour_ranks
from pipelines import records, sequences
from pipelines.sequencing.transforms import kept_numbers, kept_user_numbers, shown_numbers, user_numbers
from tests.features.made_photos import drawing, encoded
from tests.modeling.baselines.test_counting import interactions

BEAM = {"runner": "FnApiRunner", "options": []}


def review(user: int, item: str, day: int) -> str:
    return json.dumps({
        "reviewerID": f"U{user}", "asin": item, "overall": 5.0, "unixReviewTime": day * 86_400, "reviewText": "Good.",
        "summary": "Good", "reviewerName": "A", "helpful": [0, 0],
    })  # fmt: skip


def numbered(root: Path, lines: list[str], kept: Path | None = None) -> Path:
    """The folder of the tables of `sequences` from a dump of these lines; numbers are those of the folder `kept`."""
    place = root / "data/raw/d"
    place.mkdir(parents=True, exist_ok=True)
    (place / "r.json.gz").write_bytes(gzip.compress("\n".join(lines).encode() + b"\n", mtime=0))
    entry = {"format": "amazon2014", "reviews": ["r.json.gz"], "metadata": []}
    context = Context(dataset="d", root=root, seed=7, shared={"datasets": entry, "beam": BEAM})
    records.run(records.Params(), context)
    earlier = {} if kept is None else {f"previous_{side}": str(kept / side) for side in ("items", "users")}
    sequences.run(sequences.Params(k_core=0, **earlier), context)
    return context.table("sequences")


def items_of(folder: Path) -> dict[str, int]:
    """item_key to item_id."""
    return {row["item_key"]: row["item_id"] for row in read_table(folder / "items", schema.CATALOGUE).to_pylist()}


def users_of(folder: Path) -> dict[str, tuple[int, int]]:
    """user_key to user_id and number."""
    rows = read_table(folder / "users", schema.USERS).to_pylist()
    return {row["user_key"]: (row["user_id"], row["number"]) for row in rows}


OLD = [review(user, f"B{(user + step) % 9}", step) for user in range(12) for step in range(4)]
NEW = [review(user, f"A{user % 3}", 100) for user in range(12)]
JOINED = [review(user, f"B{step}", 90 + step) for user in range(20, 26) for step in range(4)]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return numbered(tmp_path_factory.mktemp("before"), OLD)


def test_new_items_are_numbered_after_the_known_ones(before: Path, tmp_path: Path) -> None:
    known, after = items_of(before), items_of(numbered(tmp_path / "kept", OLD + NEW, before))
    assert {key: after[key] for key in known} == known
    assert sorted(after[key] for key in ("A0", "A1", "A2")) == [10, 11, 12]
    assert items_of(numbered(tmp_path / "afresh", OLD + NEW)) != after


def test_new_users_are_numbered_after_the_known_ones(before: Path, tmp_path: Path) -> None:
    known, after = users_of(before), users_of(numbered(tmp_path / "kept", NEW + JOINED + OLD, before))
    assert {key: after[key] for key in known} == known
    joined = [after[key] for key in sorted(after.keys() - known.keys())]
    assert sorted(joined) == [(place, place) for place in range(13, 19)]
    assert joined != sorted(joined)  # the keys are in the order of the file, the numbers are not
    afresh = users_of(numbered(tmp_path / "afresh", NEW + JOINED + OLD))
    assert {key: afresh[key] for key in known} != known


def test_same_data_with_kept_ids_gives_the_same_bytes(before: Path, tmp_path: Path) -> None:
    after = numbered(tmp_path, OLD, before)
    assert items_of(after) == items_of(before)
    for table in ("items", "users", "interactions"):
        for name in ("part-00000.parquet", "_manifest.json"):  # so that DVC finds nothing to do after them
            assert (after / table / name).read_bytes() == (before / table / name).read_bytes()


def test_an_item_that_left_keeps_its_number_without_interactions(before: Path, tmp_path: Path) -> None:
    without = [line for line in OLD if '"B3"' not in line]
    after = numbered(tmp_path, without, before)
    assert items_of(after) == items_of(before)
    gone = next(row for row in read_table(after / "items", schema.CATALOGUE).to_pylist() if row["item_key"] == "B3")
    assert (gone["num_interactions"], gone["num_train"]) == (0, 0)


def test_users_who_left_have_no_row_and_others_keep_their_ids(before: Path, tmp_path: Path) -> None:
    known = users_of(before)
    without = [line for line in OLD if '"U3"' not in line and '"U7"' not in line]
    after = users_of(numbered(tmp_path / "fewer", without, before))
    assert sorted(user for user, _ in after.values()) == list(range(1, 11))
    assert {key: number for key, (_, number) in after.items()} == {key: known[key][1] for key in after}
    moved = [key for key in after if after[key][0] != known[key][0]]
    assert all(known[key][0] > 10 for key in moved)
    more = users_of(numbered(tmp_path / "more", without + JOINED, before))
    assert {key: more[key] for key in after} == {key: known[key] for key in after}
    assert sorted(user for user, _ in more.values()) == list(range(1, 17))
    assert sorted(more[key][1] for key in more.keys() - known.keys()) == list(range(13, 19))


def test_ids_of_a_sorted_file_do_not_reveal_neighbours() -> None:
    frame = pl.DataFrame({"user_key": [f"U{user:03d}" for user in range(600)], "first_row": range(600)})
    pairs = {
        user + 1: [10 * (user // 2) + item for item in ((1, 2, 3, 4) if user % 2 else (4, 3, 2, 1))]
        for user in range(600)
    }

    def drawn(users: pl.DataFrame, seed: int) -> pl.DataFrame:
        in_order = user_numbers(users, seed, in_file_order=True)
        return in_order.with_columns(number=shown_numbers(users.height, seed))

    def found(users: pl.DataFrame, column: str) -> float:
        ranks = neighbour_ranks(
            known_before_test(interactions(pairs)), np.array([0, *users.sort("user_key")[column].to_list()])
        )
        return float((ranks > 0).mean())

    after = kept_user_numbers(drawn(frame, 1), drawn(frame[:300], 2))
    assert after["number"].sort().to_list() == list(range(1, 601))
    assert found(after, "user_id") > 0.95  # the published order, kept as a join key
    assert found(after, "number") < 0.1


def test_kept_numbers_of_a_small_frame() -> None:
    kinds = {"item": pl.Int64, "item_id": pl.Int32, "num_interactions": pl.Int32, "num_train": pl.Int32}
    now = pl.DataFrame({"item": [5, 6], "item_key": ["B", "A"], "item_id": [1, 2], "num_interactions": [3, 4],
                        "num_train": [1, 2]}).cast(kinds)  # fmt: skip
    old = pl.DataFrame({"item_key": ["A", "C"], "item_id": [1, 2]}).cast({"item_id": pl.Int32})
    assert kept_numbers(now, old).select("item_key", "item_id", "num_interactions").rows() == [
        ("A", 1, 4), ("C", 2, 0), ("B", 3, 3)
    ]  # fmt: skip


def test_known_items_keep_codes_and_new_ones_join_similar_items() -> None:
    fresh = np.array([[0, 0], [1, 0], [1, 3], [1, 0], [9, 9]])
    codes, collisions = extend_codes(fresh, [[5, 5, 0], [7, 2, 4]])
    assert codes.tolist() == [[5, 5, 0], [7, 2, 4], [7, 2, 5], [7, 2, 6], [5, 5, 1]]
    assert collisions == 3
    assert len(np.unique(codes, axis=0)) == 5


def test_codes_of_another_kind_are_refused() -> None:
    with pytest.raises(TableError, match=r"2 earlier codes of \[2\] parts for 3 items"):
        extend_codes(np.zeros((3, 2), np.int64), [[1, 0], [1, 1]])


def test_appended_reviews_encode_the_photos_of_new_items_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded: list[str] = []
    original = images.encode_photos

    def spy(jobs: Iterable[Any], *rest: Any) -> Any:
        taken = list(jobs)  # an iterator, which is read once
        decoded.extend(job.photo.item_key for job in taken)
        return original(taken, *rest)

    monkeypatch.setattr(images, "encode_photos", spy)
    photos = tmp_path / "data/raw/d/photos"
    photos.mkdir(parents=True)
    entry = {"format": "amazon2014", "reviews": ["r.json.gz"], "metadata": [], "photos": "photos"}
    clip = {"model": "vip5-tiny", "device": "cpu"}
    context = Context(dataset="d", root=tmp_path, seed=7, shared={"datasets": entry, "clip": clip})
    keys = [f"{letter}{number}" for letter, count in (("B", 9), ("A", 3)) for number in range(count)]
    for number, key in enumerate(keys):
        (photos / f"{key}.jpg").write_bytes(encoded(drawing(size=(50 + number, 40))))

    def vectors() -> dict[str, bytes]:
        ids, rows = read_vectors(context.table("images/embeddings"), schema.embeddings)
        names = {number: key for key, number in items_of(context.table("sequences")).items()}
        return {names[int(number)]: row.tobytes() for number, row in zip(ids, rows, strict=True)}

    numbered(tmp_path, OLD)
    images.run(images.Params(workers=1), context)
    before = vectors()
    assert sorted(decoded) == keys[:9]
    decoded.clear()
    shutil.copytree(context.table("sequences"), tmp_path / "kept")
    numbered(tmp_path, OLD + NEW, tmp_path / "kept")
    images.run(images.Params(workers=1), context)
    assert sorted(decoded) == ["A0", "A1", "A2"]
    after = vectors()
    assert {key: after[key] for key in before} == before
    assert len(set(after.values())) == 12
