"""Photos and vectors that fit the catalogue badly: what the stage `images` says, and that its remedies help."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from features import images
from features.errors import InputError
from features.runtime import stage
from features.schema import CATALOGUE, ITEMS, embeddings
from features.store.tables import Provenance, from_rows, read_manifest, read_table, write_table
from tests.features.made_photos import drawing, encoded

KEYS = [f"B{number:02d}" for number in range(40)]


def shop(root: Path, dataset: dict[str, str], *, others: tuple[str, ...] = ()) -> stage.Context:
    """A catalogue of 40 items and metadata of these and `others`; item N has the address https://a/I/7N._SX9_.jpg."""
    rows = [
        {"item_id": n, "item_key": key, "num_interactions": 1, "num_train": 1}
        | dict.fromkeys(("title", "brand", "category"))
        for n, key in enumerate(KEYS, 1)
    ]
    known = [
        {"item_key": key, "categories": [], "source": "m", "line": n, "image_url": f"https://a/I/7{n}._SX9_.jpg"}
        | dict.fromkeys(("title", "brand", "price", "description"))
        for n, key in enumerate([*KEYS, *others], 1)
    ]
    made = Provenance(stage="t", params={})
    write_table(root / "data/shop/sequences/items", CATALOGUE, from_rows(CATALOGUE, rows), made)
    write_table(root / "data/shop/records/items", ITEMS, from_rows(ITEMS, known), made)
    (root / "data/raw/shop/photos").mkdir(parents=True)
    entry = {"format": "amazon2014", "reviews": ["r.gz"], "metadata": [], **dataset}
    clip = {"model": "vip5-tiny", "device": "cpu"}
    return stage.Context(dataset="shop", root=root, seed=1, shared={"clip": clip, "datasets": entry})


def photos(root: Path, *names: str) -> None:
    for number, name in enumerate(names):
        (root / "data/raw/shop/photos" / name).write_bytes(encoded(drawing(size=(50 + number, 40))))


def outcome(root: Path) -> tuple[int, dict[str, object]]:
    """The number of items with a feature, and the counts in the manifest."""
    folder = root / "data/shop/images/embeddings"
    statuses = read_table(folder, embeddings)["status"].to_pylist()
    return statuses.count("ok"), read_manifest(folder)["notes"]["matching"]


def test_mostly_unmatched_photos_are_a_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = shop(tmp_path, {"photos": "photos"})
    photos(tmp_path, "B01.jpg", "B02.jpg", *(f"IMG_{n:02d}.jpg" for n in range(38)))
    images.run(images.Params(), context)
    line = (
        "photos: 2 of 40 used; 38 belong to no item (one is IMG_00.jpg); 38 of 40 items have none (one is B00); "
        "check that they are of this dataset"
    )  # fmt: skip
    assert [record.message for record in caplog.records if record.levelname == "WARNING"][:1] == [line]
    number, matching = outcome(tmp_path)
    assert (number, matching["used"], matching["unmatched"], matching["without"]) == (2, 2, 38, 38)


def test_photos_of_items_outside_the_catalogue_are_normal(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "vip5")
    context = shop(tmp_path, {"photos": "photos"}, others=("C1", "C2", "C3"))
    photos(tmp_path, "B01.jpg", "C1.jpg", "C2.jpg", "C3.jpg", "IMG_0.jpg")
    images.run(images.Params(), context)
    line = next(record for record in caplog.records if record.message.startswith("photos:"))
    assert line.levelname == "INFO"
    assert "4 belong to no item of the catalogue, 3 of them to others of the dump (one is IMG_0.jpg)" in line.message


def test_a_list_of_names_makes_stopped_photos_pass(tmp_path: Path) -> None:
    context = shop(tmp_path, {"photos": "photos"})
    photos(tmp_path, "IMG_1.jpg", "IMG_2.jpg")
    with pytest.raises(InputError, match=r"0 of 2 used.*set datasets.NAME.photo_keys to it; .*min_match_share to 0"):
        images.run(images.Params(), context)
    assert not (tmp_path / "data/shop/images").exists()
    images.run(images.Params(min_match_share=0), context)
    assert outcome(tmp_path)[0] == 0
    (tmp_path / "data/raw/shop/keys.csv").write_text("name,item_key\nIMG_1.jpg,B01\nIMG_2.jpg,B02\n")
    context.shared["datasets"]["photo_keys"] = "keys.csv"
    images.run(images.Params(), context)
    assert outcome(tmp_path)[0] == 2


def test_an_empty_photo_folder_stops_unless_photos_is_null(tmp_path: Path) -> None:
    context = shop(tmp_path, {"photos": "photos"})
    (tmp_path / "data/raw/shop/photos/all.tar.gz").write_bytes(b"packed")
    with pytest.raises(InputError, match=r"no photo in .* \(it holds all\.tar\.gz\); .* set photos: null"):
        images.run(images.Params(), context)
    del context.shared["datasets"]["photos"]
    assert images.run(images.Params(), context) == 40


def test_photos_named_by_address_are_found_by_metadata(tmp_path: Path) -> None:
    context = shop(tmp_path, {"photos": "photos"})
    photos(tmp_path, "71._SL500_.jpg", "72.jpg")
    images.run(images.Params(), context)
    assert outcome(tmp_path)[0] == 2


def test_vectors_of_zeros_are_missing(tmp_path: Path) -> None:
    context = shop(tmp_path, {"vectors": "feat"})
    (tmp_path / "data/raw/shop/feat").mkdir()
    for number, key in enumerate(KEYS):
        np.save(tmp_path / f"data/raw/shop/feat/{key}.npy", np.full(3, float(number % 4), np.float32))
    images.run(images.Params(), context)
    number, matching = outcome(tmp_path)
    assert number == 30
    assert matching["line"] == (
        "vectors: 30 of 40 used, 10 are all zeros; 0 belong to no item; 0 of 40 items have none"
    )  # fmt: skip


def test_one_matrix_gives_the_same_features_as_files(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    context = shop(tmp_path, {"vectors": "image_feat.npy", "vector_keys": "i_id_mapping.csv"})
    folder = tmp_path / "data/raw/shop"
    np.save(folder / "image_feat.npy", values[::-1])
    rows = "".join(f"{key}\t{39 - row}\n" for row, key in enumerate(KEYS))
    (folder / "i_id_mapping.csv").write_text(f"asin\titemID\n{rows}")
    (folder / "feat").mkdir()
    for key, vector in zip(KEYS, values, strict=True):
        np.save(folder / f"feat/{key}.npy", vector)
    parts = []
    for entry in ({}, {"vectors": "feat", "vector_keys": None}):
        context.shared["datasets"].update(entry)
        images.run(images.Params(), context)
        parts.append((tmp_path / "data/shop/images/embeddings/part-00000.parquet").read_bytes())
    assert parts[0] == parts[1]


def test_a_matrix_without_keys_says_which_key_to_set(tmp_path: Path) -> None:
    context = shop(tmp_path, {"vectors": "image_feat.npy"})
    np.save(tmp_path / "data/raw/shop/image_feat.npy", np.ones((40, 2), np.float32))
    with pytest.raises(InputError, match=r"set datasets\.NAME\.vector_keys"):
        images.run(images.Params(), context)
    (tmp_path / "data/raw/shop/keys.json").write_text(json.dumps(KEYS))
    context.shared["datasets"]["vector_keys"] = "keys.json"
    images.run(images.Params(), context)
    assert outcome(tmp_path)[0] == 40


def test_vectors_of_another_dataset_stop_the_stage(tmp_path: Path) -> None:
    context = shop(tmp_path, {"vectors": "x.b"})
    (tmp_path / "data/raw/shop/x.b").write_bytes(b"X123456789" + np.ones(4096, "<f4").tobytes())
    with pytest.raises(InputError, match=r"vectors: 0 of 1 used; 1 belong to no item \(one is X123456789\)"):
        images.run(images.Params(), context)


def test_share_out_of_range_is_refused() -> None:
    with pytest.raises(ValueError, match="min_match_share"):
        images.Params(min_match_share=2.0)
