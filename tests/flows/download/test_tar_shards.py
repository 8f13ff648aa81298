"""Tar shards: appended, moved and rewritten; a truncated photo is dropped."""

import errno
import hashlib
import os
import tarfile
from pathlib import Path

import pytest

from features.vision.photo_store import PhotoStore
from flows.download import tar_shards


def move(folder: Path, place: Path, **photos: bytes) -> list[str]:
    """Puts photos into `incoming.tar` and from there into shards of two."""
    incoming = tar_shards.AppendTar(folder / "incoming.tar")
    for key, content in photos.items():
        incoming.add(f"{key}.jpg", content)
    incoming.close()
    held = {name: data for shard in place.glob("*.tar") for name, data in members(shard).items()}
    recorded = held | {f"{key}.jpg": content for key, content in photos.items()}
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in recorded.items() if data != b"spoilt"}
    return tar_shards.add_photos(folder / "incoming.tar", place, digests, per_shard=2)


def members(shard: Path) -> dict[str, bytes]:
    with tarfile.open(shard) as archive:
        return {name: archive.extractfile(name).read() for name in archive.getnames()}  # type: ignore[union-attr]


def test_only_shards_with_new_or_changed_photos_are_rewritten(tmp_path: Path) -> None:
    place = tmp_path / "photos"
    first = {f"B{number}": b"old" for number in range(5)}
    assert move(tmp_path, place, **first) == [
        "photos-00000.tar", "photos-00001.tar", "photos-00002.tar",
    ]  # fmt: skip
    before = {shard.name: shard.stat().st_ino for shard in place.iterdir()}
    assert move(tmp_path, place, C1=b"new", C2=b"new") == [
        "photos-00002.tar", "photos-00003.tar",
    ]  # fmt: skip
    assert move(tmp_path, place, B0=b"newer") == [
        "photos-00000.tar", "photos-00003.tar",
    ]  # fmt: skip
    after = {shard.name: shard.stat().st_ino for shard in place.iterdir()}
    assert after["photos-00001.tar"] == before["photos-00001.tar"]
    store = PhotoStore(place)
    assert {key: store.bytes(key) for key in sorted(first | {"C1": b""} | {"C2": b""})} == first | {
        "C1": b"new",
        "C2": b"new",
        "B0": b"newer",
    }
    assert move(tmp_path, place, D1=b"spoilt") == []
    assert not (tmp_path / "incoming.tar").exists()


@pytest.mark.parametrize("name", ["B1.jpg", "x" * 96 + ".jpg", "x" * 100 + ".jpg"])
def test_the_longest_item_key_is_kept_whole(tmp_path: Path, name: str) -> None:
    incoming = tar_shards.AppendTar(tmp_path / "incoming.tar")
    incoming.add(name, b"photo")
    incoming.close()
    assert members(tmp_path / "incoming.tar") == {name: b"photo"}


@pytest.mark.parametrize("cut", [1, 100, 512, 600, 1023])
def test_a_truncated_photo_is_dropped_and_the_next_is_complete(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "incoming.tar"
    incoming = tar_shards.AppendTar(path)
    incoming.add("B1.jpg", b"one")
    incoming.add("B2.jpg", b"two")
    incoming.close()
    os.truncate(path, path.stat().st_size - cut)
    incoming = tar_shards.AppendTar(path)
    incoming.add("B3.jpg", b"three")
    incoming.close()
    assert members(path) == {"B1.jpg": b"one", "B3.jpg": b"three"}


def test_a_failed_fsync_is_reported_on_close(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar_shards, "SYNC_BYTES", 1024)
    calls: list[int] = []

    def failing_once(file: int) -> None:
        calls.append(file)
        if len(calls) == 1:
            raise OSError(errno.EIO, "the disk failed")

    monkeypatch.setattr(tar_shards.os, "fsync", failing_once)
    incoming = tar_shards.AppendTar(tmp_path / "incoming.tar")
    incoming.add("B1.jpg", b"one")
    with pytest.raises(OSError, match="the disk failed"):
        incoming.close()
    assert len(calls) == 1
