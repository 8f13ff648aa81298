import io
import tarfile
from pathlib import Path

import pytest

from features.errors import InputError
from features.vision.photo_store import PhotoStore


def write_tar(path: Path, members: list[tuple[str, bytes | tarfile.TarInfo]]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            if isinstance(content, tarfile.TarInfo):
                tar.addfile(content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))


def link(name: str, kind: bytes, target: str = "/etc/passwd") -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = kind, target
    return member


def test_photos_come_from_files_and_archives_alike(tmp_path):
    (tmp_path / "B1.jpg").write_bytes(b"one")
    (tmp_path / "B2.PNG").write_bytes(b"two")
    (tmp_path / "notes.txt").write_bytes(b"no photo")
    (tmp_path / ".hidden.jpg").write_bytes(b"no photo")
    write_tar(tmp_path / "a.tar", [("B3.jpg", b"three"), ("deep/er/B4.jpeg", b"four"), ("read.me", b"no photo")])
    store = PhotoStore(tmp_path)
    assert store.keys() == ["B1", "B2", "B3", "B4"]
    assert list(map(store.bytes, store.keys())) == [b"one", b"two", b"three", b"four"]
    assert store.bytes("B9") is None
    assert store.find("B4").source == "a.tar:deep/er/B4.jpeg"


def test_loose_and_readable_photos_take_precedence(tmp_path):
    (tmp_path / "B1.jpg").write_bytes(b"loose")
    write_tar(tmp_path / "a.tar", [("B1.jpg", b"packed"), ("../B2.jpg", b"unsafe")])
    write_tar(tmp_path / "b.tar", [("B2.jpg", b"safe")])
    store = PhotoStore(tmp_path)
    assert store.bytes("B1") == b"loose"
    assert store.bytes("B2") == b"safe"


@pytest.mark.parametrize("name", ["../B1.jpg", "/B1.jpg", "x/../../B1.jpg", "..\\B1.jpg", "C:\\B1.jpg"])
def test_a_name_that_climbs_out_is_refused(tmp_path, name):
    write_tar(tmp_path / "a.tar", [(name, b"payload")])
    store = PhotoStore(tmp_path)
    assert store.find("B1").refusal == "unsafe_name"
    assert store.bytes("B1") is None


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_in_an_archive_are_refused(tmp_path, kind):
    write_tar(tmp_path / "a.tar", [("", link("B1.jpg", kind))])
    store = PhotoStore(tmp_path)
    assert store.find("B1").refusal == "not_a_file"
    assert store.bytes("B1") is None


def test_links_and_folders_beside_the_photos_are_refused(tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    folder = tmp_path / "photos"
    (folder / "B2.jpg").mkdir(parents=True)
    (folder / "B1.jpg").symlink_to(secret)
    store = PhotoStore(folder)
    assert [store.find(key).refusal for key in ("B1", "B2")] == ["not_a_file", "not_a_file"]
    assert store.bytes("B1") is None


def test_an_absent_folder_is_one_clear_line(tmp_path):
    with pytest.raises(InputError) as caught:
        PhotoStore(tmp_path / "photos")
    assert str(caught.value).startswith(f"found no photo folder {tmp_path}/photos; expected a folder of <item key>.jpg")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "spoil", [lambda data: data[:700], lambda data: b"<html>" * 200, lambda data: data[: 512 + 100]]
)
def test_a_broken_archive_is_one_clear_line(tmp_path, spoil):
    path = tmp_path / "a.tar"
    write_tar(path, [("B1.jpg", b"x" * 5000), ("B2.jpg", b"y" * 5000)])
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(InputError, match=r"archive .*a\.tar that cannot be read"):
        PhotoStore(tmp_path)


def test_a_photo_that_shrinks_after_indexing_is_an_error(tmp_path):
    (tmp_path / "B1.jpg").write_bytes(b"12345")
    store = PhotoStore(tmp_path)
    (tmp_path / "B1.jpg").write_bytes(b"1")
    with pytest.raises(InputError, match=r"B1\.jpg with 1 bytes"):
        store.bytes("B1")
