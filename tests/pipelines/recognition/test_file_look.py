import csv
import gzip
import io
import json
import pickle
import tarfile
import time
import zipfile
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.recognition.file_look import look

REVIEW_2014 = {
    "reviewerID": "A1",
    "asin": "B01",
    "helpful": [0, 0],
    "overall": 4.0,
    "reviewText": "a: b",
    "unixReviewTime": 1,
}
REVIEW_2018 = {
    "reviewerID": "A1",
    "asin": "B01",
    "overall": 4.0,
    "verified": True,
    "style": {"Size:": "S"},
    "unixReviewTime": 1,
}
REVIEW_2023 = {
    "rating": 4.0,
    "title": "t",
    "text": "x",
    "images": [],
    "asin": "B01",
    "parent_asin": "B01",
    "user_id": "A",
    "timestamp": 1,
}
ITEM_2014 = {"asin": "B01", "title": "It's {1}", "categories": [["A", "B"]], "imUrl": "http://x/y.jpg"}
ITEM_2018 = {"asin": "B01", "title": "T", "category": ["A"], "imageURLHighRes": []}
ITEM_2023 = {"main_category": "A", "title": "T", "store": "S", "categories": [], "parent_asin": "B01"}
AMAZON = [
    (REVIEW_2014, "amazon2014", "reviews"),
    (REVIEW_2018, "amazon2018", "reviews"),
    (REVIEW_2023, "amazon2023", "reviews"),
    (ITEM_2014, "amazon2014", "items"),
    (ITEM_2018, "amazon2018", "items"),
    (ITEM_2023, "amazon2023", "items"),
]
WRITERS = {
    "lines": lambda record: "".join(json.dumps(record) + "\n" for _ in range(3)),
    "literals": lambda record: "".join(f"{record!r}\n" for _ in range(3)),
    "array": lambda record: json.dumps([record] * 3),
    "indented array": lambda record: "\ufeff" + json.dumps([record] * 3, indent=2).replace("\n", "\r\n"),
}


def looked(folder: Path, name: str, content: bytes | str) -> tuple[str | None, str | None]:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    found = look(path)
    return found.format, found.kind


@pytest.mark.parametrize("written", WRITERS)
@pytest.mark.parametrize(("record", "form", "kind"), AMAZON)
def test_amazon_releases_by_their_keys(
    tmp_path: Path, record: dict[str, object], form: str, kind: str, written: str
) -> None:
    text = WRITERS[written](record)
    assert looked(tmp_path, "data.txt", text) == (form, kind)
    assert looked(tmp_path, "data", gzip.compress(text.encode())) == (form, kind)
    with zipfile.ZipFile(tmp_path / "data.zip", "w") as archive:
        archive.writestr("folder/data.json", text)
    found = look(tmp_path / "data.zip")
    assert (found.format, found.kind) == (form, kind)
    assert "zip" in found.summary


@pytest.mark.parametrize(("record", "form", "kind"), AMAZON)
def test_csv_exports_of_the_amazon_fields(tmp_path: Path, record: dict[str, object], form: str, kind: str) -> None:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(record))
    writer.writeheader()
    writer.writerow(record)
    expected = "ratings" if "verified" in record else form  # no texts: ratings serve
    assert looked(tmp_path, "data.csv", stream.getvalue()) == (expected, kind)


RATINGS = [
    ("A1B2C3D4,B000000009,4.0,1400000000\nA1B2C3D5,B000000001,5.0,1400000100\n", "headless.csv"),
    ("userId,movieId,rating,timestamp\n1,1,4.0,964982703\n", "ratings.csv"),
    ("user_id,parent_asin,rating,timestamp,history\nA1,B1,5.0,1400000000000,B2 B3\n", "X.train.csv"),
    ("uid\tiid\n7\t3\n8\t3\n", "pairs.tsv"),
    ("1::1193::5::978300760\n1::661::3::978302109\n", "ratings.dat"),
    ("u1,i1,4.0,2014-05-13\nu1,i2,4.0,2014-05-14\n", "dates.csv"),
    ("1\t5\t3\t881250949\n2\t6\t4\t881250950\n", "u.data"),
]


@pytest.mark.parametrize(("text", "name"), RATINGS)
def test_ratings_with_and_without_a_header(tmp_path: Path, text: str, name: str) -> None:
    assert looked(tmp_path, name, text) == ("ratings", "reviews")


def test_ratings_in_parquet(tmp_path: Path) -> None:
    pl.DataFrame({"user": [1], "item": [2], "rating": [3.0]}).write_parquet(tmp_path / "r.parquet")
    found = look(tmp_path / "r.parquet")
    assert (found.format, found.kind, found.columns) == ("ratings", "reviews", ("user", "item", "rating"))


OTHERS = [
    ("movies.csv", 'movieId,title,genres\n1,"Toy, Story (1995)",A|B\n', "ratings", "items"),
    ("x.inter", "user_id:token\titem_id:token\trating:float\n1\t2\t3\n", "recbole", "reviews"),
    ("x.item", "item_id:token\ttitle:token_seq\n1\tToy Story\n", "recbole", "items"),
    ("Beauty.txt", "1 1 2 3\n2 4 5 6 7\n", "sequences", "reviews"),
    ("sequential_data.txt", "1 1 2 3\n2 4 5 6 7\n", "p5", "reviews"),
    ("user_sequence.txt", "A1X B01 B02\nA2X B03 B04 B05\n", "openp5", "reviews"),
    ("user_sequence.txt", "1 1 2 3\n2 4 5 6 7\n", "openp5", "reviews"),
    ("item_plain_text.txt", "B01 Blue kettle no. 0\nB02 Red puzzle\n", "openp5", "items"),
    ("datamaps.json", json.dumps({"user2id": {"A": "1"}, "id2user": {"1": "A"}}), "p5", "maps"),
    ("items.jsonl", json.dumps({"asin": "B1", "title": "T", "vip5_item_id": 1}), "p5", "items"),
    ("exp_splits.pkl", pickle.dumps({"train": []}), "p5", "maps"),
    ("other.pkl", pickle.dumps({"train": []}), None, None),
    ("i_id_mapping.csv", "asin\titemID\nB01\t0\nB02\t1\n", None, "vector_keys"),
    ("u_id_mapping.csv", "user_id\tuserID\nB01\t0\nB02\t1\n", None, None),
    ("keys.txt", "B01\nB02\nB03\n", None, "vector_keys"),
    ("keys.json", '["B01", "B02"]', None, "vector_keys"),
    ("photos.csv", "photo,item_id\n000.jpg,B01\n001.jpg,B02\n", None, "photo_keys"),
    ("photos.csv", "000.jpg,B01\n001.jpg,B02\n", None, "photo_keys"),
    ("one.jpg", b"\xff\xd8\xff\xe0" + bytes(40), None, "photos"),
    ("reviews.jsonl", "<!DOCTYPE html>\n<html><body>404</body></html>", None, None),
    ("data.xml", '<?xml version="1.0"?>\n<items/>', None, None),
    ("empty.json", b"", None, None),
    ("users.dat", "1::F::1::10::48067\n2::M::56::16::70072\n", None, None),
    ("links.csv", "movieId,imdbId,tmdbId\n1,0114709,862\n", None, None),
    ("reviews.json.xz", b"\xfd7zXZ\x00" + bytes(30), None, None),
    ("blob.bin", bytes(range(256)) * 40, None, None),
    ("README.md", "# Data\n\nSome words about the data.\n", None, None),
]


@pytest.mark.parametrize(("name", "content", "form", "kind"), OTHERS)
def test_other_layouts(tmp_path: Path, name: str, content: bytes | str, form: str | None, kind: str | None) -> None:
    assert looked(tmp_path, name, content) == (form, kind)


def test_a_saved_error_page_is_called_one(tmp_path: Path) -> None:
    path = tmp_path / "reviews.jsonl"
    path.write_text("\n <html><head><title>403</title></head></html>")
    assert "HTML page" in look(path).summary


def test_a_zip_archive_is_read_if_its_member_is_plain(tmp_path: Path) -> None:
    path = tmp_path / "ratings.csv.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("README.txt", "Some words.")
        archive.writestr("ratings.csv", "user,item,rating,time\n1,2,3.0,1400000000\n")
    assert look(path).format == "ratings"
    other = path.rename(tmp_path / "ml-small.zip")
    assert look(other).format is None
    assert "README.txt, ratings.csv; unpack it" in look(other).summary


def tar(path: Path, names: list[str]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name in names:
            member = tarfile.TarInfo(name)
            member.size = 600_000
            archive.addfile(member, io.BytesIO(bytes(member.size)))
    return path


def test_photo_archives_and_shards(tmp_path: Path) -> None:
    assert look(tar(tmp_path / "a.tar", ["B01.jpg", "B02.jpg", "B03.jpg"])).kind == "photos"
    shard = look(tar(tmp_path / "0.tar", ["00000.jpg", "00000.json", "00000.txt"]))
    assert shard.kind == "photos"
    assert "img2dataset" in shard.summary
    assert look(tar(tmp_path / "t.tar", ["reviews.json"])).kind is None


def test_folders_of_photos_and_vectors(tmp_path: Path) -> None:
    (tmp_path / "flat").mkdir()
    (tmp_path / "flat/B01.jpg").write_bytes(b"")
    (tmp_path / "nested/B01").mkdir(parents=True)
    (tmp_path / "nested/B01/1.png").write_bytes(b"")
    (tmp_path / "features").mkdir()
    np.save(tmp_path / "features/B01.npy", np.zeros(4, np.float32))
    kinds = {name: look(tmp_path / name).kind for name in ("flat", "nested", "features")}
    assert kinds == {"flat": "photos", "nested": "photos", "features": "vectors"}


def test_matrices_and_the_features_of_2014(tmp_path: Path) -> None:
    np.save(tmp_path / "m.npy", np.zeros((4, 8), np.float32))
    assert "4 vectors of 8" in look(tmp_path / "m.npy").summary
    np.save(tmp_path / "o.npy", np.array([{}], object))
    assert look(tmp_path / "o.npy").kind is None
    record = b"B000000001" + np.zeros(4096, "<f4").tobytes()
    assert looked(tmp_path, "image_features_X.b", record * 3) == (None, "vectors")
    assert looked(tmp_path, "image_features_X.b", record * 2 + record[:99]) == (None, "vectors")


MAGICS = [
    b"",
    b"\x1f\x8b\x08\x00",
    b"PK\x03\x04",
    b"PAR1",
    b"\x93NUMPY\x01\x00",
    b"\x80\x04",
    b"{",
    b"[",
    b"{'a': ",
    b"<html",
]


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    magic=st.sampled_from(MAGICS),
    rest=st.binary(max_size=2000) | st.text(max_size=500).map(lambda t: t.encode("utf-8", "replace")),
)
def test_no_content_makes_it_raise(tmp_path: Path, magic: bytes, rest: bytes) -> None:
    (tmp_path / "any").write_bytes(magic + rest)
    assert look(tmp_path / "any").summary


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    cut=st.integers(0, 3000), flip=st.integers(0, 3000), kind=st.sampled_from(["zip", "tar", "npy", "parquet", "gz"])
)
def test_cut_and_damaged_containers(tmp_path: Path, cut: int, flip: int, kind: str) -> None:
    data = bytearray(_container(kind))
    data[flip % len(data)] ^= 0x55
    (tmp_path / "any").write_bytes(bytes(data[: max(len(data) - cut, 0)]))
    assert look(tmp_path / "any").summary


def _container(kind: str) -> bytes:
    stream = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.json", json.dumps(REVIEW_2014))
    elif kind == "tar":
        with tarfile.open(fileobj=stream, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("B01.jpg"), io.BytesIO())
    elif kind == "npy":
        np.save(stream, np.zeros((4, 8)))
    elif kind == "parquet":
        pl.DataFrame({"user": [1], "item": [2]}).write_parquet(stream)
    else:
        stream.write(gzip.compress(json.dumps(REVIEW_2014).encode()))
    return stream.getvalue()


HARD = [
    b"{" * 2**21,
    b'"' + b"\\'" * 2**20,
    b"[" + b"'" * 2**21,
    b"," * 2**21,
    b"a," * 2**20,
    b"1 " * 2**20,
    b"<" * 2**21,
]


@pytest.mark.parametrize("content", HARD, ids=range(len(HARD)))
def test_hard_contents_take_bounded_time(tmp_path: Path, content: bytes) -> None:
    begin = time.monotonic()
    looked(tmp_path, "hard", content)
    looked(tmp_path, "hard.gz", gzip.compress(content, 1))
    assert time.monotonic() - begin < 10


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    assert "cannot be read" in look(tmp_path / "absent").summary
