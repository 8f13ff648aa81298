import json
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from features import schema
from features.errors import TableError
from features.store import tables
from features.store.tables import Provenance

PROVENANCE = Provenance(stage="sequences", params={"k_core": 5})
ROWS = [
    {"user_id": 2, "user_key": "b", "name": None, "num_interactions": 6, "number": 1},
    {"user_id": 1, "user_key": "a", "name": "Ann", "num_interactions": 5, "number": 2},
]


def users(rows: list[dict[str, Any]] = ROWS) -> pa.Table:
    return tables.from_rows(schema.USERS, rows)


def write(folder: Path, rows: list[dict[str, Any]] = ROWS, **more: Any) -> int:
    return tables.write_table(folder, schema.USERS, users(rows), PROVENANCE, **more)


def test_rows_come_back_sorted_by_key(tmp_path: Path) -> None:
    assert write(tmp_path / "users") == 2
    assert tables.read_table(tmp_path / "users", schema.USERS).to_pylist() == [ROWS[1], ROWS[0]]


def test_columns_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    write(tmp_path / "users")
    read = tables.read_table(tmp_path / "users", schema.USERS, columns=["name", "user_id"])
    assert read.to_pydict() == {"name": ["Ann", None], "user_id": [1, 2]}


def test_same_rows_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write(tmp_path / name, rows_per_part=1)
    for path in sorted((tmp_path / "one").iterdir()):
        assert path.read_bytes() == (tmp_path / "other" / path.name).read_bytes()


def test_parts_are_cut_by_rows_and_listed_in_the_manifest(tmp_path: Path) -> None:
    write(tmp_path / "users", rows_per_part=1)
    manifest = tables.read_manifest(tmp_path / "users")
    assert [(name, part["rows"]) for name, part in manifest["parts"].items()] == [
        ("part-00000.parquet", 1),
        ("part-00001.parquet", 1),
    ]
    assert (manifest["rows"], manifest["table"], manifest["stage"]) == (2, "sequences/users", "sequences")


def test_an_empty_table_is_a_table(tmp_path: Path) -> None:
    assert write(tmp_path / "users", []) == 0
    assert tables.read_table(tmp_path / "users", schema.USERS).num_rows == 0


def test_meanings_travel_with_the_file(tmp_path: Path) -> None:
    write(tmp_path / "users")
    field = pq.read_schema(tmp_path / "users/part-00000.parquet").field("user_key")
    assert field.metadata[b"meaning"] == b"the dump's own key of the user"


def test_meanings_and_units_are_read_without_arrow_too(tmp_path: Path) -> None:
    tables.write_table(tmp_path / "it's", schema.INTERACTIONS, schema.INTERACTIONS.arrow.empty_table(), PROVENANCE)
    path = str(tmp_path / "it's/part-00000.parquet")
    duck = "SELECT decode(value) FROM parquet_kv_metadata($path) WHERE decode(key) = 'columns'"
    texts = [
        pq.read_schema(path).metadata[b"columns"].decode(),
        pl.read_parquet_metadata(path)["columns"],
        duckdb.execute(duck, {"path": path}).fetchall()[0][0],
    ]
    found = [json.loads(text) for text in texts]
    assert list(found[0]) == schema.INTERACTIONS.arrow.names
    assert [columns["timestamp"] for columns in found] == [
        {"meaning": "time of the review; null where the dump has none", "unit": "seconds since 1970, UTC"}
    ] * 3


@pytest.mark.parametrize(
    ("row", "rule"),
    [
        ({"user_id": 0}, "user_id must be at least 1 does not hold"),
        (
            {"user_key": None},
            "1 rows of sequences/users where user_key must not be null does not hold, such as",
        ),
        ({"user_id": 2}, "1 repeated keys ('user_id',)"),
    ],
)
def test_a_broken_rule_leaves_nothing_behind(tmp_path: Path, row: dict[str, Any], rule: str) -> None:
    with pytest.raises(TableError) as caught:
        write(tmp_path / "users", [ROWS[0], ROWS[1] | row])
    assert rule in str(caught.value)
    assert not (tmp_path / "users").exists()


def test_a_value_outside_the_closed_set_is_named(tmp_path: Path) -> None:
    row = {"source": "f", "line": 1, "reason": "ugly", "excerpt": ""}
    with pytest.raises(TableError, match=r"reason must be one of .* such as .*'reason': 'ugly'"):
        tables.write_table(
            tmp_path / "rejects", schema.REJECTS, tables.from_rows(schema.REJECTS, [row]), PROVENANCE
        )  # fmt: skip


def test_a_missing_and_an_undeclared_column_are_both_named(tmp_path: Path) -> None:
    wrong = users().drop_columns(["name"]).append_column("nick", pa.array(["x", "y"]))
    with pytest.raises(TableError) as caught:
        tables.write_table(tmp_path / "users", schema.USERS, wrong, PROVENANCE)
    assert caught.value.found == "columns missing ['name'] and undeclared ['nick'] in sequences/users"


def test_a_type_that_cannot_be_cast_safely_is_refused(tmp_path: Path) -> None:
    wrong = users().set_column(0, "user_id", pa.array([1.5, 2.0]))
    with pytest.raises(TableError) as caught:
        tables.write_table(tmp_path / "users", schema.USERS, wrong, PROVENANCE)
    assert caught.value.found.startswith("sequences/users with user_id of type double (")
    assert caught.value.expected == "int32"


VECTOR = pa.list_(pa.float32())
BAD_VECTORS = {
    "must not be null": [[0.0, 1.0], None],
    "must hold no null": [[0.0, 1.0], [2.0, None]],
}


@pytest.mark.parametrize("kind", [VECTOR, pa.list_(pa.float32(), 2), pa.list_(pa.float16(), 2)])
@pytest.mark.parametrize("rule", BAD_VECTORS)
def test_a_null_in_or_for_a_vector_is_reported_by_rule_and_row(tmp_path: Path, rule: str, kind: pa.DataType) -> None:
    data = pa.table({"item_id": pa.array([1, 2], pa.int32()), "embedding": pa.array(BAD_VECTORS[rule], kind)})
    with pytest.raises(TableError) as caught:
        tables.write_table(tmp_path / "embeddings", schema.text_embeddings(2), data, PROVENANCE)
    row = {"item_id": 2, "embedding": BAD_VECTORS[rule][1]}
    assert str(caught.value) == (
        f"found 1 rows of texts where embedding {rule} does not hold, such as {row}; expected none; "
        "do: fix the stage that writes texts"
    )


def test_a_vector_of_another_width_is_one_short_line(tmp_path: Path) -> None:
    data = pa.table({"item_id": pa.array([1], pa.int32()), "embedding": pa.array([[0.0]], VECTOR)})
    with pytest.raises(TableError, match=r"texts with embedding of type list<") as caught:
        tables.write_table(tmp_path / "embeddings", schema.text_embeddings(2), data, PROVENANCE)
    assert caught.value.expected == "fixed_size_list<element: halffloat not null>[2]"
    assert len(str(caught.value)) < 400


def test_an_error_about_many_rows_shows_three_and_stays_short(tmp_path: Path) -> None:
    rows = [{"source": "f", "line": n, "reason": "ugly" * 100, "excerpt": ""} for n in range(1, 10)]
    with pytest.raises(TableError, match="9 rows of records/rejects") as caught:
        tables.write_table(tmp_path / "rejects", schema.REJECTS, tables.from_rows(schema.REJECTS, rows), PROVENANCE)
    assert str(caught.value).count("'reason'") == 3
    assert len(caught.value.found.partition("such as")[2]) < 320


def test_killed_between_parts_there_is_no_readable_table(tmp_path: Path) -> None:
    folder = tmp_path / "users"
    staging = tables.begin_table(folder)
    tables.write_part(staging, schema.USERS, 0, users([ROWS[1]]))
    with pytest.raises(TableError, match="no table at"):
        tables.read_table(folder, schema.USERS)


def test_killed_while_renewing_the_old_table_still_stands(tmp_path: Path) -> None:
    folder = tmp_path / "users"
    write(folder)
    staging = tables.begin_table(folder)
    tables.write_part(staging, schema.USERS, 0, users([ROWS[1]]))
    assert tables.read_table(folder, schema.USERS).num_rows == 2
    assert write(folder, [ROWS[1]]) == 1
    assert tables.read_table(folder, schema.USERS).to_pylist() == [ROWS[1]]


def test_a_folder_without_manifest_is_called_half_written(tmp_path: Path) -> None:
    write(tmp_path / "users")
    (tmp_path / "users" / tables.MANIFEST).unlink()
    with pytest.raises(TableError, match="a half-written table at"):
        tables.read_table(tmp_path / "users", schema.USERS)


def test_a_truncated_part_is_named(tmp_path: Path) -> None:
    write(tmp_path / "users")
    part = tmp_path / "users/part-00000.parquet"
    part.write_bytes(part.read_bytes()[:-9])
    with pytest.raises(TableError, match=r"part .*part-00000\.parquet changed since its manifest"):
        tables.read_table(tmp_path / "users", schema.USERS)


def test_a_table_of_another_schema_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "users")
    with pytest.raises(TableError) as caught:
        tables.read_table(tmp_path / "users", schema.CANDIDATES)
    assert caught.value.expected == f"{tables.schema_digest(schema.CANDIDATES)} (candidates)"


def test_input_digest_follows_content_not_place(tmp_path: Path) -> None:
    for name in ("one", "other"):
        write(tmp_path / name)
        (tmp_path / f"{name}_files").mkdir()
        (tmp_path / f"{name}_files" / "a.txt").write_text("a")
    assert tables.input_digest(tmp_path / "one") == tables.input_digest(tmp_path / "other")
    assert tables.input_digest(tmp_path / "one_files") == tables.input_digest(tmp_path / "other_files")
    (tmp_path / "other_files" / "a.txt").write_text("b")
    assert tables.input_digest(tmp_path / "one_files") != tables.input_digest(tmp_path / "other_files")
    with pytest.raises(TableError, match="no input"):
        tables.input_digest(tmp_path / "gone")


def test_manifest_names_no_place_and_no_time(tmp_path: Path) -> None:
    write(tmp_path / "users")
    text = (tmp_path / "users" / tables.MANIFEST).read_text()
    assert str(tmp_path) not in text
    assert set(json.loads(text)) == {
        "table", "rows", "schema_digest", "stage", "params_digest", "inputs", "libraries", "notes", "parts",
    }  # fmt: skip
