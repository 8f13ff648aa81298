import csv
import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features import schema
from features.errors import InputError
from features.runtime.datasets import Dataset
from pipelines.parsing import parse_block
from pipelines.parsing.config import Params
from pipelines.parsing.table_columns import Kind
from tests.pipelines.parsing.one_file import read
from tests.pipelines.review_2014 import GOOD

GOOD_2023 = {
    "rating": 5.0, "title": "Fine", "text": "It\nworks.", "asin": "V1", "parent_asin": "P1", "user_id": "U1",
    "timestamp": 1588687728923, "helpful_vote": 3, "verified_purchase": True,
}  # fmt: skip
ITEM = {
    "asin": "B1", "title": "Lamp, 5 m", "brand": "Tav", "price": 9.5, "categories": [["Home", "Lamps"]],
    "description": "Bright.", "imUrl": "https://a/1.jpg",
}  # fmt: skip
ITEM_2023 = {
    "parent_asin": "B1", "title": "Lamp", "store": "Tav", "price": "9.5", "categories": ["Home", "Lamps"],
    "description": ["Bright.", "Warm."], "images": [{"variant": "MAIN", "large": "https://a/1.jpg"}],
}  # fmt: skip


def zipped(**members: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name.replace("_", "."), data)
    return stream.getvalue()


def exported(records: list[dict[str, Any]], encode: Any) -> bytes:
    """A CSV as pandas writes it: lists and objects as `encode` gives them, null as an empty cell."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, [*records[0], "rank"])
    writer.writeheader()
    for record in records:
        cells = {name: encode(value) if isinstance(value, list | dict) else value for name, value in record.items()}
        writer.writerow(cells | {"rank": 7})
    return stream.getvalue().encode()


def parquet(records: list[dict[str, Any]]) -> bytes:
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(records), stream)
    return stream.getvalue()


def containers(record: dict[str, Any]) -> list[bytes]:
    records = [record, record]
    array, line = json.dumps(records, indent=1).encode(), json.dumps(record).encode() + b"\n"
    return [
        array, json.dumps(records).encode(), gzip.compress(array), zipped(r_json=array), zipped(r_json=line * 2),
        zipped(x_txt=line * 2, other_txt=b"7"), b"\xef\xbb\xbf" + array, exported(records, json.dumps),
        exported(records, repr), gzip.compress(exported(records, repr)), zipped(r_csv=exported(records, repr)),
        parquet(records),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("record", "form", "kind"),
    [
        (GOOD, "amazon2014", "reviews"), (GOOD_2023, "amazon2023", "reviews"), (ITEM, "amazon2014", "items"),
        (ITEM_2023, "amazon2023", "items"), (ITEM, "ratings", "items"), (ITEM_2023, "sequences", "items"),
    ],
)  # fmt: skip
def test_a_record_is_the_same_in_every_container(tmp_path: Path, record: Any, form: str, kind: Kind) -> None:
    [row] = read(tmp_path, json.dumps(record).encode(), form, kind=kind).rows
    for data in containers(record):
        found = read(tmp_path, data, form, kind=kind, name="x.txt.zip")
        assert [one | {"line": 1} for one in found.rows] == [row | {"source": "x.txt.zip"}] * 2
        assert found.rejects == []


def test_a_wrong_element_is_one_reject(tmp_path: Path) -> None:
    found = read(tmp_path, b'[{"asin": 1}, {"a": ], %s, {"b"' % json.dumps(GOOD).encode(), "amazon2014")
    assert found.reasons() == [(1, "missing_user"), (2, "not_parsable"), (4, "truncated_file")]
    assert [row["line"] for row in found.rows] == [3]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (zipped(a_json=b"1", b_json=b"2"), r"x\.zip that holds 2 files \(a\.json, b\.json\).*unpack it"),
        (zipped(), "holds 0 files"),
        (b"PAR1 and no more", "cannot be read as Parquet"),
    ],
)
def test_a_container_that_cannot_be_opened_is_one_error(tmp_path: Path, data: bytes, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(tmp_path, data, "amazon2014", name="x.zip")


def test_a_zip_that_is_cut_is_truncated(tmp_path: Path) -> None:
    data = zipped(r_json=json.dumps(GOOD).encode() * 100)
    assert read(tmp_path, data[:-30], "amazon2014").reasons() == [(1, "truncated_file")]


def test_a_zip_bomb_is_refused(tmp_path: Path) -> None:
    data = zipped(r_json=b"\n" * (20 << 20))
    with pytest.raises(InputError, match="decompresses to more than 100 times"):
        read(tmp_path, data, "amazon2014")


def test_movies_become_items(tmp_path: Path) -> None:
    data = (
        b"movieId,title,genres\n1,Heat (1995),Action|Crime\n2,,\n"
        b'40,"Cry, the ""Beloved"" Country (1995)",(no genres listed)\n'
    )
    rows = read(tmp_path, data, "ratings", kind="items").rows
    assert [(row["item_key"], row["title"], row["categories"]) for row in rows] == [
        ("1", "Heat (1995)", ["Action", "Crime"]), ("2", None, []), ("40", 'Cry, the "Beloved" Country (1995)', []),
    ]  # fmt: skip


def test_columns_of_items_may_be_named(tmp_path: Path) -> None:
    columns = {"item": 1, "title": 2, "categories": 3, "user": 1}
    [row] = read(tmp_path, b"7::Heat (1995)::Action|Crime", "ratings", kind="items", columns=columns).rows
    assert (row["item_key"], row["title"], row["categories"]) == ("7", "Heat (1995)", ["Action", "Crime"])


def test_the_item_of_ratings_may_have_another_name(tmp_path: Path) -> None:
    columns: dict[str, str | int] = {"user": "who", "item": "film", "time": "when"}
    [row] = read(tmp_path, b"movieId,title\n7,Heat\n", "ratings", kind="items", columns=columns).rows
    assert (row["item_key"], row["title"]) == ("7", "Heat")
    assert read(tmp_path, b"who,film,when\n1,7,5\n", "ratings", columns=columns).pairs() == [("1", "7")]


def test_an_item_table_in_parquet_is_read(tmp_path: Path) -> None:
    data = parquet([{"movieId": 7, "title": "Heat", "genres": ["Action", "Crime"], "x": b"\xff"}])
    [row] = read(tmp_path, data, "ratings", kind="items").rows
    assert (row["item_key"], row["title"], row["categories"]) == ("7", "Heat", ["Action", "Crime"])


def test_recbole_files_are_read(tmp_path: Path) -> None:
    data = b'user_id:token\titem_id:token\trating:float\ttimestamp:float\tx:token\nU1\t"I1\t3.5\t1393545600.0\tq\n'
    [row] = read(tmp_path, data, "recbole").rows
    assert (row["user_key"], row["item_key"], row["rating"], row["timestamp"]) == ("U1", '"I1', 3.5, 1393545600)
    head = b"item_id:token\tmovie_title:token_seq\tgenre:token_seq\tprice:float\n"
    items = (
        head + b"1\tToy 5\" Story\tAnimation Comedy\t3.5\n2\tX\t'Home & Kitchen', 'Lamps'\t\n3\tY\tHome Goods, Lamps\t"
    )
    rows = read(tmp_path, items, "recbole", kind="items").rows
    assert [(row["title"], row["categories"]) for row in rows] == [
        ('Toy 5" Story', ["Animation", "Comedy"]), ("X", ["Home & Kitchen", "Lamps"]), ("Y", ["Home Goods", "Lamps"]),
    ]  # fmt: skip


def test_bare_sequences_keep_their_order(tmp_path: Path) -> None:
    found = read(tmp_path, b"7 10 20\n8 10\nx 1\n9\n\n\xff 1\n", "sequences")
    assert [(row["user_key"], row["item_key"], row["position"]) for row in found.rows] == [
        ("7", "10", 1), ("7", "20", 2), ("8", "10", 1),
    ]  # fmt: skip
    assert found.reasons() == [(3, "bad_sequence"), (4, "bad_sequence"), (5, "bad_sequence"), (6, "not_utf8")]


def test_openp5_files_are_read(tmp_path: Path) -> None:
    found = read(tmp_path, b'A1 B1 B2\n{"a": 1} 2\n', "openp5")
    assert (found.pairs(), found.reasons()) == ([("A1", "B1"), ("A1", "B2")], [(2, "bad_sequence")])
    items = read(tmp_path, b"B1 Blue kettle\nB2\n\n\xff\n", "openp5", kind="items")
    assert [(row["item_key"], row["title"]) for row in items.rows] == [("B1", "Blue kettle"), ("B2", None)]
    assert items.reasons() == [(3, "missing_item"), (4, "not_utf8")]


def parts(folder: Path, path: Path, form: str, kind: Kind, num_readers: int) -> dict[str, bytes]:
    """The parts that all readers of a file write."""
    params = Params(readers_per_file=num_readers, lines_per_block=3)
    listed = (
        {"reviews": (path.name,), "metadata": ()}
        if kind == "reviews"
        else {"reviews": ("r",), "metadata": (path.name,)}
    )
    dataset = Dataset(format=form, **listed)  # type: ignore[arg-type]
    staging = {name: folder / str(num_readers) / name for name in ("reviews", "items", "rejects")}
    for one in staging.values():
        one.mkdir(parents=True)
    paths = dict.fromkeys(dataset.files, path)
    counts = [
        parse_block.work(unit)
        for unit in parse_block.plan_units(params, dataset, paths, staging)
        if unit.source == path.name
    ]
    lines = sum(count.get(f"{path.name}:lines", 0) for count in counts)
    assert {count[f"{path.name}:seen"] for count in counts} == {lines}
    return {
        file.relative_to(folder / str(num_readers)).as_posix(): file.read_bytes()
        for file in sorted((folder / str(num_readers)).rglob("*.parquet"))
    }  # fmt: skip


RATINGS = b"user,item,rating,time\n" + b"".join(b'U%d,"I\n%d",%d,%d\n' % (n, n % 7, n % 7, n) for n in range(40))
CASES: list[tuple[str, Kind, bytes]] = [
    ("ratings", "reviews", RATINGS),
    ("ratings", "reviews", zipped(a_csv=RATINGS)),
    ("ratings", "reviews", parquet([{"user": f"U{n}", "item": "I", "rating": n % 7, "time": n} for n in range(40)])),
    ("ratings", "items", b"item,title\n" + b"".join(b"I%d,T\n" % n for n in range(40))),
    ("recbole", "reviews", RATINGS.replace(b",", b"\t").replace(b"user", b"user_id:token")),
    ("sequences", "reviews", b"".join(b"%d 1 2\n" % n for n in range(40))),
    ("openp5", "items", b"".join(b"I%d text\n" % n for n in range(40))),
    ("amazon2014", "reviews", json.dumps([GOOD | {"overall": n % 7} for n in range(40)], indent=1).encode()),
    ("amazon2014", "reviews", exported([GOOD | {"overall": n % 7} for n in range(40)], repr)),
    ("amazon2014", "items", parquet([ITEM | {"asin": f"I{n}"} for n in range(40)])),
]


@pytest.mark.parametrize(("form", "kind", "data"), CASES)
def test_tables_are_the_same_for_any_readers(tmp_path: Path, form: str, kind: Kind, data: bytes) -> None:
    path = tmp_path / "x.data"
    path.write_bytes(data)
    made = {number: parts(tmp_path, path, form, kind, number) for number in (1, 2, 5)}
    assert made[1] == made[2] == made[5]
    assert len(made[1]) >= 13


FORMS = ("amazon2014", "amazon2018", "amazon2023", "ratings", "recbole", "sequences", "openp5")
NOISE = st.binary(max_size=30) | st.sampled_from([
    b'[{"asin": "B1"', b'{"asin": "B1"}', b"user,item,rating,time\n", b"U,I,4,1\n", b"reviewerID,asin,overall\n",
    b'"', b"\n", b"1 2 3\n", b"user_id:token\titem_id:token\ttimestamp:float\n", b"U\tI\t7\n", b"B1 text\n",
])  # fmt: skip


@given(st.lists(NOISE, max_size=8), st.sampled_from(FORMS), st.sampled_from(["reviews", "items"]), st.integers(1, 4))
@settings(max_examples=300, deadline=None)
def test_any_file_is_accounted_for_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, noise: list[bytes], form: str, kind: Kind, size: int
) -> None:
    params = Params(lines_per_block=size, max_line_bytes=40)
    try:
        found = read(tmp_path_factory.getbasetemp(), b"".join(noise), form, kind=kind, params=params)
    except InputError:
        return
    assert found.num_lines == found.num_kept + len(found.rejects)
    assert {row["reason"] for row in found.rejects} <= set(schema.REJECT_REASONS)
