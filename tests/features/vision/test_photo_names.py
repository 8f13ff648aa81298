import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from features.errors import InputError
from features.vision.photo_names import PhotoNames, image_name
from features.vision.photo_store import PhotoStore
from tests.features.vision.test_photo_store import write_tar


def store(folder: Path, keys: str, **names: dict[str, list[str]]) -> PhotoStore:
    return PhotoStore(folder, PhotoNames(frozenset(keys.split()), **names))


def files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(name.encode())


def sources(found: PhotoStore, key: str) -> list[str]:
    return [photo.source for photo in found.photos_of(key, 9)]


def test_img2dataset_shards_are_read_by_the_json_beside(tmp_path: Path) -> None:
    beside = [{"asin": "B1"}, {"caption": "B2"}, {"url": "https://x/I/71ab._SL500_.jpg"}, {"caption": "B1"}, [1]]
    members = []
    for number, fields in enumerate(beside):
        members += [(f"{number:09}.jpg", b"%d" % number), (f"{number:09}.json", json.dumps(fields).encode())]
    write_tar(tmp_path / "00000.tar", [*members, ("000000009.jpg", b"9"), ("000000009.json", b"{")])
    found = store(tmp_path, "B1 B2 B3", addresses={"71ab": ["B3"]})
    assert [found.bytes(key) for key in ("B1", "B1.1", "B2", "B3")] == [b"0", b"3", b"1", b"2"]
    assert [photo.source for photo, _ in found.unmatched(["B1", "B2", "B3"])] == [
        "00000.tar:000000004.jpg", "00000.tar:000000009.jpg",
    ]  # fmt: skip
    assert len(found) == 6


def test_a_folder_per_item_lists_its_main_photo_first(tmp_path: Path) -> None:
    files(tmp_path, "B1/10.jpg", "B1/2.jpg", "B1/main.png", "B2/1.jpg", "B9/1.jpg")
    found = store(tmp_path, "B1 B2")
    assert sources(found, "B1") == ["B1/main.png", "B1/2.jpg", "B1/10.jpg"]
    assert sources(found, "B2") == ["B2/1.jpg"]
    assert found.unmatched(["B1", "B2"])[0][1] == ("1", "B9")


def test_a_folder_per_item_may_lie_in_a_tar(tmp_path: Path) -> None:
    write_tar(tmp_path / "a.tar", [("photos/B1/1.jpg", b"one"), ("photos/B1/2.jpg", b"two")])
    assert sources(store(tmp_path, "B1"), "B1") == ["a.tar:photos/B1/1.jpg", "a.tar:photos/B1/2.jpg"]


def test_numeric_folders_and_names_are_told_apart(tmp_path: Path) -> None:
    files(tmp_path / "items", "1/1.jpg", "1/2.jpg", "2/1.jpg")
    assert [sources(store(tmp_path / "items", "1 2"), key) for key in "12"] == [["1/1.jpg", "1/2.jpg"], ["2/1.jpg"]]
    files(tmp_path / "buckets", "1/12.jpg", "1/13.jpg", "2/21.jpg")
    found = store(tmp_path / "buckets", "1 2 12 13 21")
    assert [sources(found, key) for key in ("1", "12", "21")] == [[], ["1/12.jpg"], ["2/21.jpg"]]


def test_another_case_counts_where_it_is_unique(tmp_path: Path) -> None:
    files(tmp_path, "b01.jpg", "b01.1.jpg", "b02.jpg", "B02.png", "x1.jpg")
    found = store(tmp_path, "B01 B02 B03 X1 x1")
    assert sources(found, "B01") == ["b01.jpg", "b01.1.jpg"]
    assert sources(found, "B02") == ["B02.png"]
    assert sources(found, "X1") == []
    assert sources(found, "x1") == ["x1.jpg"]


def test_a_table_of_names_has_the_first_word(tmp_path: Path) -> None:
    files(tmp_path, "IMG_1.jpg", "IMG_2.jpg", "B2.jpg", "deep/IMG_3.jpg")
    listed = {"IMG_1.jpg": ["B1"], "IMG_2": ["B1", "B3"], "deep/IMG_3.jpg": ["B4"], "B2.jpg": ["B9"]}
    found = store(tmp_path, "B1 B2 B3 B4", listed=listed)
    assert sources(found, "B1") == ["IMG_1.jpg", "IMG_2.jpg"]
    assert [sources(found, key) for key in ("B2", "B3", "B4")] == [["B2.jpg"], ["IMG_2.jpg"], ["deep/IMG_3.jpg"]]


def test_an_address_names_all_items_that_have_it(tmp_path: Path) -> None:
    files(tmp_path, "71ab._SL500_.jpg", "51c+d.jpg", "other.jpg")
    found = store(tmp_path, "B1 B2 B3", addresses={"71ab": ["B1", "B2"], "51c+d": ["B3"]})
    assert [sources(found, key) for key in ("B1", "B2", "B3")] == [["71ab._SL500_.jpg"]] * 2 + [["51c+d.jpg"]]
    assert image_name("http://ecx.images-amazon.com/images/I/51c%2Bd._SY300_.jpg?x=1") == "51c+d"


def test_one_archive_may_stand_for_the_folder(tmp_path: Path) -> None:
    write_tar(tmp_path / "photos.tar", [("B1.jpg", b"one")])
    assert PhotoStore(tmp_path / "photos").bytes("B1") == b"one"
    assert PhotoStore(tmp_path / "photos.tar").bytes("B1") == b"one"


def shard() -> bytes:
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "a.tar"
        write_tar(path, [("0.jpg", b"x" * 700), ("0.json", b'{"asin": "B1"}'), ("B2/1.jpg", b"y" * 600)])
        return path.read_bytes()


SHARD = shard()


@settings(max_examples=60, deadline=None)
@given(cut=st.integers(0, len(SHARD)), junk=st.binary(max_size=40), place=st.integers(0, len(SHARD)))
def test_a_spoilt_archive_is_read_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, cut: int, junk: bytes, place: int
) -> None:
    folder = tmp_path_factory.mktemp("photos")
    data = SHARD[:place] + junk + SHARD[place + len(junk) :]
    (folder / "a.tar").write_bytes(data[:cut])
    try:
        found = store(folder, "B1 B2")
    except InputError:
        return
    for key in found.keys():  # noqa: SIM118 - a method of the store
        assert found.bytes(key) is not None or found.find(key).refusal
