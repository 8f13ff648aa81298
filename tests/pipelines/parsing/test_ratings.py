import gzip
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import InputError
from pipelines.parsing.config import Params
from tests.pipelines.parsing.one_file import read

ROW = ("U1", "I1", 4.0, 1393545600)


def values(row: dict[str, Any]) -> tuple[Any, ...]:
    return tuple(row[name] for name in ("user_key", "item_key", "rating", "timestamp"))


@pytest.mark.parametrize(
    ("data", "entry"),
    [
        (b"U1,I1,4.0,1393545600\n", {}),
        (b"I1,4.0,1393545600,U1\n", {"columns": {"user": 4, "item": 1, "rating": 2, "time": 3}}),
        (b"userId,movieId,rating,timestamp\nU1,I1,4.0,1393545600\n", {}),
        (b"user_id,parent_asin,rating,timestamp,history\nU1,I1,4.0,1393545600000,I2 I3\n", {}),
        (b"timestamp\trating\titem_id\tuser_id\n1393545600\t4\tI1\tU1", {}),
        (b"timestamp:float\tuser_id:token\titem_id:token\trating:float\n1393545600.0\tU1\tI1\t4\n", {}),
        (b"\xef\xbb\xbfreviewerID,asin,overall,date\r\n U1 ,I1,4.0,2014-02-28\r\n", {}),
        (b"wer;was;wie;wann\nU1;I1; 4 ;2014-02-28T00:00:00Z\n",
         {"columns": {"user": "wer", "item": "was", "rating": "wie", "time": "wann"}}),
        (b'user,item,rating,time\n"U1","I1","4.0","02 28, 2014"\n', {}),
        (b"U1::I1::4::1393545600\n", {}),
        (b"u,i,r,t\nU1,I1,4,1393545600\n", {"columns": {"user": "u", "item": "i", "rating": "r", "time": "t"}}),
        (b"U1,I1,4,1393545600\n", {"time_unit": "seconds"}),
        (b"U1,I1,4,1393545600123\n", {"time_unit": "milliseconds"}),
    ],
)  # fmt: skip
def test_a_rating_is_found_in_any_layout(tmp_path: Path, data: bytes, entry: dict[str, Any]) -> None:
    for name, stored in (("x.csv", data), ("x.csv.gz", gzip.compress(data))):
        found = read(tmp_path, stored, "ratings", name=name, **entry)
        assert ([values(row) for row in found.rows], found.rejects) == ([ROW], [])


@pytest.mark.parametrize("data", [b"", b"user,item,rating,time\n", b"user,item,rating,time"])
def test_a_table_without_records_has_no_lines(tmp_path: Path, data: bytes) -> None:
    assert read(tmp_path, data, "ratings").num_lines == 0


def test_a_beginning_without_a_byte_is_rejected(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbf", "ratings").reasons() == [(1, "not_parsable")]
    cut = gzip.compress(b"U1,I1,4,1\n")[:10]
    assert read(tmp_path, cut, "ratings", name="x.gz").reasons() == [(1, "truncated_file")]


def test_amazon_items_before_users_are_recognised(tmp_path: Path) -> None:
    [row] = read(tmp_path, b"B000000001,A1B2C3D4E5F6G7,5.0,1393545600\n", "ratings").rows
    assert (row["user_key"], row["item_key"]) == ("A1B2C3D4E5F6G7", "B000000001")


def test_a_table_without_ratings_has_null(tmp_path: Path) -> None:
    for data in (b"U1,I1,1393545600\n", b"user,item,time\nU1,I1,1393545600\n"):
        [row] = read(tmp_path, data, "ratings").rows
        assert values(row) == ("U1", "I1", None, 1393545600)


def test_without_times_the_line_is_the_order(tmp_path: Path) -> None:
    data = b"user,item,rating\nU1,I2,4\n,I1,4\nU1,I1,4\n"
    found = read(tmp_path, data, "ratings", params=Params(lines_per_block=1))
    assert [(row["item_key"], row["timestamp"], row["position"]) for row in found.rows] == [
        ("I2", None, 2),
        ("I1", None, 4),
    ]
    assert found.reasons() == [(3, "missing_user")]


def test_decimal_commas_are_read_between_other_marks(tmp_path: Path) -> None:
    for data in (b"user;item;rating;time\nU1;I1;4,5;1\n", b'user\titem\trating\ttime\nU1\tI1\t"4,5"\t1\n'):
        assert [row["rating"] for row in read(tmp_path, data, "ratings").rows] == [4.5]
    assert read(tmp_path, b'user,item,rating,time\nU1,I1,"4,5",1\n', "ratings").reasons() == [(2, "bad_rating")]


def test_each_fault_has_its_reason_and_line(tmp_path: Path) -> None:
    lines = [
        b"user,item,rating,time,text", b"U1,I1,0.5,1,fine", b",I1,4,1,", b"U1,,4,1,", b"U1,I1,,1,", b"U1,I1,9,1,",
        b"U1,I1,x,1,", b"U1,I1,4,,", b"U1,I1,4,soon,", b"U1,I1,4,-1,", b"", b"U1,I1,4,1,a,b", b"U1,I1,4,1,caf\xe9",
        b"U1,I1,nan,1,", b"U1,I1,4", b"U1,I1,4,1,,,", b"U1,I1,4,99999999999,", b"U1,I1,0.4,1,", b"U2,I2,5,2",
    ]  # fmt: skip
    found = read(tmp_path, b"\n".join(lines), "ratings", rating_range=(0.5, 5.0))
    assert found.pairs() == [("U1", "I1"), ("U1", "I1"), ("U2", "I2")]
    assert [row["line"] for row in found.rows] == [2, 16, 19]
    assert found.reasons() == [
        (3, "missing_user"), (4, "missing_item"), (5, "missing_rating"), (6, "bad_rating"), (7, "bad_rating"),
        (8, "missing_time"), (9, "bad_time"), (10, "bad_time"), (11, "not_parsable"), (12, "not_parsable"),
        (13, "not_utf8"), (14, "bad_rating"), (15, "missing_time"), (17, "bad_time"), (18, "bad_rating"),
    ]  # fmt: skip
    assert found.num_lines == 18


def test_a_quoted_cell_may_hold_line_breaks(tmp_path: Path) -> None:
    data = b'user,item,rating,time,text\r\nU1,I1,4,1,"one, ""two""\r\nthree"\r\nU2,I2,5,2,"x"\r\n'
    found = read(tmp_path, data, "ratings")
    assert [(row["line"], row["text"]) for row in found.rows] == [(2, 'one, "two" three'), (3, "x")]


def test_a_stray_quote_costs_one_record(tmp_path: Path) -> None:
    data = b'user,item,rating,time\n"U0,I1,4,1\n' + b"".join(b"U%d,I1,4,1\n" % n for n in range(1, 3000))
    found = read(tmp_path, data, "ratings")
    assert len(found.rows) == 2999
    assert len(found.rejects) == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a,b,c,d\nU1,I1,4,1\n", r"without a column of user and item .*first line \(a, b, c, d\).*columns"),
        (b"<html>\n<body>\n", "without a column of user and item"),
        (b'{"user": 1}\n', "without a column of user and item"),
        (b"user,item\nU1,I1\n".decode().encode("utf-16"), "x.csv in UTF-16; .*write x.csv in UTF-8"),
        (b"user,item\rU1,I1\rU2,I1", "whose lines end in carriage returns alone"),
    ],
)  # fmt: skip
def test_a_table_without_its_columns_is_one_error(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, data, "ratings")


def test_the_remedy_of_unknown_columns_helps(tmp_path: Path) -> None:
    data = b"a,b,c,d\nU1,I1,4,1393545600\n"
    for columns in ({"user": "a", "item": "b", "time": "d"}, {"user": 1, "item": 2, "time": 4}):
        found = read(tmp_path, data, "ratings", columns=columns)
        assert (found.pairs()[-1], found.rows[-1]["rating"]) == (("U1", "I1"), None)
    with pytest.raises(InputError, match=r"columns\.user = x, which x\.csv lacks: .*\(a, b, c, d\)"):
        read(tmp_path, data, "ratings", columns={"user": "x", "item": "b", "time": "d"})


def test_parquet_is_read_whatever_its_types(tmp_path: Path) -> None:
    table = pa.table({
        "user_id": pa.array([1, 2, None]), "movieId": pa.array(["a", "b", "c"]).dictionary_encode(),
        "stars": pa.array([4.5, None, 3.0]), "history": [["x"], [], None],
        "date": pa.array([1393545600000, 1, 2], pa.timestamp("ms")),
    })  # fmt: skip
    pq.write_table(table, tmp_path / "made")
    found = read(
        tmp_path, (tmp_path / "made").read_bytes(), "ratings", name="x.parquet", params=Params(lines_per_block=2)
    )
    assert [values(row) for row in found.rows] == [("1", "a", 4.5, 1393545600)]
    assert found.reasons() == [(2, "missing_rating"), (3, "missing_user")]


CELLS = st.text(alphabet='aU1I5.,\t"\n\r;| é\x00-', max_size=6) | st.sampled_from(["U1", "I1", "4", "1393545600", '"'])


@given(st.lists(st.lists(CELLS, max_size=6), max_size=12), st.sampled_from(["", "\n", "\r\n"]), st.integers(1, 5))
@settings(max_examples=150, deadline=None)
def test_every_record_is_kept_or_rejected_once(
    tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], end: str, size: int
) -> None:
    text = "user,item,rating,time\n" + "\n".join(",".join(row) for row in rows) + end
    params = Params(lines_per_block=size, max_line_bytes=30)
    found = read(tmp_path_factory.getbasetemp(), text.encode(), "ratings", params=params)
    assert found.num_lines == found.num_kept + len(found.rejects)
    lines = [row["line"] for row in (*found.rows, *found.rejects)]
    assert sorted(lines) == list(range(2, found.num_lines + 2))
