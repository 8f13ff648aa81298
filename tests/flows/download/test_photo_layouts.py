"""An ingest brings photos, vectors and the tables of their names, in every layout that `images` reads."""

import tarfile
from pathlib import Path
from typing import Any

import pytest

from features.vision.photo_names import PhotoNames
from features.vision.photo_store import PhotoStore
from flows.download import dump_files, sources


def bring(root: Path, files: dict[str, bytes], **entry: Any) -> list[str]:
    """Copies `files` from a folder; returns the names in the manifest."""
    for name, data in {"r.gz": b"reviews", **files}.items():
        (root / "downloads" / name).parent.mkdir(parents=True, exist_ok=True)
        (root / "downloads" / name).write_bytes(data)
    transfers = dump_files.plan("shop", root / "downloads", params(**entry), root)
    arrivals = [dump_files.fetch(transfer, "shop", root) for transfer in transfers]
    for transfer, arrival in zip(transfers, arrivals, strict=True):
        dump_files.verify(transfer, arrival)
    dump_files.publish("shop", arrivals, root)
    return [one.name for one in dump_files.read_manifest(root / "data/raw/shop")]


def params(**entry: Any) -> dict[str, Any]:
    own = {"format": "amazon2014", "reviews": ["r.gz"], "metadata": [], **entry}
    return {"datasets": {"shop": own}, "tokenizers": {}, "ingest": {}}


def test_a_folder_per_item_keeps_its_folders(tmp_path: Path) -> None:
    photos = {"photos/B1/1.jpg": b"one", "photos/B1/2.jpg": b"two", "photos/B2/1.jpg": b"three"}
    assert bring(tmp_path, photos, photos="photos") == ["photos/photos-00000.tar", "r.gz"]
    with tarfile.open(tmp_path / "data/raw/shop/photos/photos-00000.tar") as shard:
        assert sorted(shard.getnames()) == ["B1/1.jpg", "B1/2.jpg", "B2/1.jpg"]
    store = PhotoStore(tmp_path / "data/raw/shop/photos", PhotoNames({"B1", "B2"}))
    assert [store.bytes(key) for key in ("B1", "B1.1", "B2")] == [b"one", b"two", b"three"]


@pytest.mark.parametrize(
    ("files", "entry"),
    [
        ({"f.npy": b"1", "keys.csv": b"2"}, {"vectors": "f.npy", "vector_keys": "keys.csv"}),
        ({"image_features_X.b": b"1"}, {"vectors": "image_features_X.b"}),
        ({"posters.tar": b"1", "names.csv": b"2"}, {"photos": "posters.tar", "photo_keys": "names.csv"}),
        ({"posters-0.tar": b"1", "posters-1.tar": b"2"}, {"photos": "."}),
    ],
)
def test_files_beside_the_dump_come_and_stay(tmp_path: Path, files: dict[str, bytes], entry: dict[str, str]) -> None:
    assert bring(tmp_path, files, **entry) == sorted([*files, "r.gz"])
    again = sources.plan_fetched("shop", params(**entry), tmp_path)
    assert [transfer.name for transfer in again] == sorted([*files, "r.gz"])
