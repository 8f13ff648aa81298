"""Manifests: a table is readable if it is complete, of one run, and made from the current tables."""

import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features import schema
from features.errors import TableError
from features.store import tables
from features.store.tables import Provenance

USER = {"user_id": 1, "user_key": "a", "name": None, "num_interactions": 5, "number": 1}
CANDIDATES = {"user_id": 1, "split": "test", "item_ids": [4, 9]}
REVIEW = {
    "user_key": "a", "item_key": "B1", "rating": 4.0, "timestamp": 9, "user_name": None, "headline": None, "text": "t",
    "helpful_votes": None, "source": "r.json", "line": 1, "position": 0,
}  # fmt: skip


def write(
    root: Path, table: schema.Table, row: Mapping[str, Any], *inputs: str, stage: str = "", params: object = None
) -> None:
    provenance = Provenance(
        stage=stage or table.name.partition("/")[0], params=params, inputs={name: root / name for name in inputs}
    )
    tables.write_table(root / table.name, table, tables.from_rows(table, [row]), provenance)


@pytest.fixture
def line(tmp_path: Path) -> Path:
    """records/reviews -> sequences/users -> candidates, of one row each."""
    write(tmp_path, schema.REVIEWS, REVIEW)
    write(tmp_path, schema.USERS, USER, "records/reviews")
    write(tmp_path, schema.CANDIDATES, CANDIDATES, "sequences/users")
    return tmp_path


def test_a_current_line_is_read(line: Path) -> None:
    assert tables.read_table(line / "candidates", schema.CANDIDATES).to_pylist() == [CANDIDATES]


def test_a_stale_table_is_an_error_that_names_its_input(line: Path) -> None:
    write(line, schema.USERS, USER | {"num_interactions": 6}, "records/reviews")
    with pytest.raises(TableError, match=r"stale candidates: made from sequences/users \w{16}, which is now \w{16}.*"
                       r"expected tables made from those beside them.*the stage candidates"):  # fmt: skip
        tables.read_table(line / "candidates", schema.CANDIDATES)
    assert tables.read_table(line / "sequences/users", schema.USERS).num_rows == 1


def test_a_table_is_stale_if_an_indirect_input_changed(line: Path) -> None:
    write(line, schema.REVIEWS, REVIEW | {"rating": 5.0})
    for name, table in (("sequences/users", schema.USERS), ("candidates", schema.CANDIDATES)):
        with pytest.raises(TableError, match="stale sequences/users: made from records/reviews"):
            tables.read_table(line / name, table)


def test_the_same_rows_written_again_make_nothing_stale(line: Path) -> None:
    write(line, schema.REVIEWS, REVIEW)
    write(line, schema.USERS, USER, "records/reviews")
    assert tables.read_table(line / "candidates", schema.CANDIDATES).num_rows == 1


def test_an_input_that_is_not_here_is_not_missed(line: Path) -> None:
    (line / "sequences/users" / tables.MANIFEST).unlink()
    assert tables.read_table(line / "candidates", schema.CANDIDATES).num_rows == 1


def test_tables_of_two_runs_of_one_stage_cannot_be_read(line: Path) -> None:
    """A stage killed after its first table leaves such tables."""
    reject = {"source": "r.json", "line": 2, "reason": "not_utf8", "excerpt": ""}
    write(line, schema.REJECTS, reject)
    assert tables.read_table(line / "records/rejects", schema.REJECTS).num_rows == 1
    write(line, schema.REJECTS, reject, params={"max_line_bytes": 9})
    for table in (schema.REJECTS, schema.REVIEWS):
        with pytest.raises(TableError, match=r"records/\w+ and records/\w+ of two runs of the stage records"):
            tables.read_table(line / table.name, table)


def test_an_abandoned_staging_folder_is_ignored(line: Path) -> None:
    folder = line / "records/rejects"
    write(line, schema.REJECTS, {"source": "r", "line": 2, "reason": "not_utf8", "excerpt": ""}, params=3)
    folder.rename(tables.staging_of(folder))
    assert tables.read_table(line / "records/reviews", schema.REVIEWS).num_rows == 1


def replace(part: Path, data: pa.Table) -> None:
    """Overwrites a part with other rows, as a manual edit would."""
    pq.write_table(data, part, compression="zstd")


@pytest.mark.parametrize(
    ("column", "value", "rule"),
    [
        ("timestamp", 2**33, "timestamp must be at most 8.58993e+09"),
        ("rating", float("nan"), "rating must be finite"),
        ("line", 0, "line must be at least 1"),
        ("user_key", None, "user_key must not be null"),
    ],
)
def test_reading_checks_rules_despite_a_forged_manifest(line: Path, column: str, value: object, rule: str) -> None:
    folder = line / "records/reviews"
    part = folder / "part-00000.parquet"
    field = schema.REVIEWS.arrow.field(column)
    rows = pq.read_table(part)
    bad = rows.set_column(rows.column_names.index(column), field.with_nullable(True), pa.array([value], field.type))
    replace(part, bad)
    entry = tables.read_manifest(folder)["parts"][part.name]
    text = (folder / tables.MANIFEST).read_text()
    for old, new in ((entry["sha256"], tables.file_digest(part)), (str(entry["bytes"]), str(part.stat().st_size))):
        text = text.replace(old, new)
    (folder / tables.MANIFEST).write_text(text)
    with pytest.raises(TableError) as caught:
        tables.read_table(folder, schema.REVIEWS)
    assert f"1 rows of records/reviews where {rule} does not hold, such as" in str(caught.value)
    assert "{'source': 'r.json', 'line': " in str(caught.value)
    untouched = "headline" if column != "headline" else "text"
    assert tables.read_table(folder, schema.REVIEWS, columns=[untouched]).num_rows == 1


def test_one_other_byte_of_the_same_size_is_noticed(line: Path) -> None:
    part = line / "sequences/users/part-00000.parquet"
    data = bytearray(part.read_bytes())
    data[len(data) // 2] ^= 1
    part.write_bytes(data)
    for read in (tables.read_table, tables.checked_parts):
        with pytest.raises(TableError, match=r"part .*part-00000\.parquet changed since its manifest"):
            read(part.parent, schema.USERS)  # type: ignore[operator]


def test_checked_parts_are_the_manifests_in_key_order(tmp_path: Path) -> None:
    rows = tables.from_rows(schema.USERS, [USER | {"user_id": n} for n in (1, 2, 3)])
    tables.write_table(tmp_path / "users", schema.USERS, rows, Provenance(stage="s", params={}), rows_per_part=1)
    (tmp_path / "users" / "part-00007.parquet").write_bytes(b"a stray file")
    found = tables.checked_parts(tmp_path / "users", schema.USERS)
    assert [path.name for path in found] == [f"part-0000{n}.parquet" for n in (0, 1, 2)]
    with pytest.raises(TableError, match="schema"):
        tables.checked_parts(tmp_path / "users", schema.CANDIDATES)


def test_keys_ascend_within_a_part(tmp_path: Path) -> None:
    staging = tables.begin_table(tmp_path / "users")
    rows = tables.from_rows(schema.USERS, [USER | {"user_id": n} for n in (1, 3, 2, 5, 5)])
    with pytest.raises(TableError) as caught:
        tables.write_part(staging, schema.USERS, 0, rows)
    assert str(caught.value) == (
        "found 2 rows of sequences/users where user_id must ascend without repeats by ('user_id',) does not hold, "
        "such as {'user_id': 2}, {'user_id': 5}; expected none; do: fix the stage that writes sequences/users"
    )


def test_keys_ascend_from_part_to_part(tmp_path: Path) -> None:
    staging = tables.begin_table(tmp_path / "users")
    for index, user_ids in enumerate(((1, 2), (2, 3))):
        rows = tables.from_rows(schema.USERS, [USER | {"user_id": n} for n in user_ids])
        tables.write_part(staging, schema.USERS, index, rows)
    with pytest.raises(TableError, match=r"part-00001\.parquet of sequences/users that begins with the key \[2\] "):
        tables.finish_table(tmp_path / "users", schema.USERS, Provenance(stage="s", params={}))
    assert not (tmp_path / "users").exists()


def test_a_full_disk_is_one_line_and_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    staging = tables.begin_table(tmp_path / "users")

    def full(data: pa.Table, path: Path, **_: object) -> None:
        path.write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pq, "write_table", full)
    with pytest.raises(TableError, match=r"part-00000\.parquet that cannot be written \(No space left on device\)"):
        tables.write_part(staging, schema.USERS, 0, tables.from_rows(schema.USERS, [USER]))
    assert list(staging.iterdir()) == []


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where a folder should be")
    with pytest.raises(TableError, match=r"that cannot be written \(Not a directory\)"):
        tables.begin_table(tmp_path / "data" / "users")


def test_what_a_killed_run_left_is_cleared_by_the_next(tmp_path: Path) -> None:
    write(tmp_path, schema.USERS, USER)
    folder = tmp_path / schema.USERS.name
    folder.rename(folder.with_name(".users.old"))  # killed between the two renames
    (tables.begin_table(folder) / "part-00009.parquet").write_bytes(b"half")  # and once more before its end
    with pytest.raises(TableError, match="no table at"):
        tables.read_table(folder, schema.USERS)
    write(tmp_path, schema.USERS, USER)
    assert sorted(path.name for path in folder.parent.iterdir()) == ["users"]
    assert tables.read_table(folder, schema.USERS).num_rows == 1
