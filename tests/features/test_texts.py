from pathlib import Path

import numpy as np
import pytest

from features import texts
from features.encoders.config import ClipParams
from features.encoders.encoder import TextEncoder
from features.encoders.loading import load_text_encoder
from features.runtime import stage
from features.schema import CATALOGUE, text_embeddings
from features.store.embeddings import read_vectors
from features.store.tables import Provenance, from_rows, read_manifest, write_table

CLIP = {"model": "vip5-tiny", "device": "cpu"}
TITLES = ["Red kettle", None, "Blue lamp", "  ", "Guitar with two necks"]


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return load_text_encoder(ClipParams(**CLIP))


def run(root: Path, titles: list[str | None], **params: object) -> tuple[np.ndarray, dict[str, object]]:
    rows = [
        {
            "item_id": n,
            "item_key": f"B{n}",
            "title": title,
            "brand": None,
            "category": None,
            "num_interactions": 1,
            "num_train": 1,
        }
        for n, title in enumerate(titles, 1)
    ]
    write_table(
        root / "data/shop/sequences/items", CATALOGUE, from_rows(CATALOGUE, rows), Provenance(stage="t", params={})
    )
    context = stage.Context(dataset="shop", root=root, seed=1, shared={"clip": CLIP})
    assert texts.run(texts.Params(**params), context) == len(titles)
    ids, vectors = read_vectors(root / "data/shop/texts", text_embeddings)
    assert ids.tolist() == list(range(1, len(titles) + 1))
    return vectors, read_manifest(root / "data/shop/texts")["notes"]


def test_an_item_without_a_title_has_a_row_of_zeros(tmp_path):
    vectors, notes = run(tmp_path, TITLES)
    assert np.any(vectors != 0, axis=1).tolist() == [True, False, True, False, True]
    assert notes["counts"] == {"items": 5, "with_title": 3, "without": 2}
    assert notes["encoder"]["untrained"] is True


def test_rows_follow_their_items_in_any_order_and_batch(tmp_path, encoder):
    forward, _ = run(tmp_path / "a", TITLES, batch_size=2)
    backward, _ = run(tmp_path / "b", TITLES[::-1])
    np.testing.assert_allclose(forward, backward[::-1], atol=2e-3)
    for row, title in zip(forward, TITLES, strict=True):
        if title and title.strip():
            np.testing.assert_allclose(row, encoder.encode_texts([title])[0], atol=2e-3)


def test_equal_runs_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        run(tmp_path / name, TITLES)
    parts = [(tmp_path / name / "data/shop/texts/part-00000.parquet").read_bytes() for name in ("a", "b")]
    assert parts[0] == parts[1]


def test_equal_titles_are_encoded_once(tmp_path, monkeypatch):
    told = []
    original = texts.encode_titles

    def spy(titles, *rest):
        told.extend(titles.values())
        return original(titles, *rest)

    monkeypatch.setattr(texts, "encode_titles", spy)
    first, _ = run(tmp_path, ["Red kettle", "Blue lamp", "Red kettle"], batch_size=2, titles_per_shard=2)
    assert told == ["Red kettle", "Blue lamp"]
    assert np.array_equal(first[0], first[2])
    told.clear()
    second, _ = run(tmp_path, ["Blue lamp", "Guitar", "Red kettle"])
    assert told == ["Guitar"]
    assert np.array_equal(second[[0, 2]], first[[1, 0]])


def test_processes_share_the_titles(tmp_path, monkeypatch):
    alone, _ = run(tmp_path / "one", TITLES)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(AssertionError):  # `run` here expects a table; the second process writes none
        run(tmp_path / "two", TITLES)
    assert not (tmp_path / "two/data/shop/texts").exists()
    monkeypatch.setenv("RANK", "0")
    assert np.array_equal(run(tmp_path / "two", TITLES)[0], alone)


def test_centring_leaves_items_without_titles_at_zero(tmp_path):
    vectors, notes = run(tmp_path, TITLES, center=True)
    assert np.any(vectors != 0, axis=1).tolist() == [True, False, True, False, True]
    np.testing.assert_allclose(np.linalg.norm(vectors[[0, 2, 4]], axis=1), np.ones(3), atol=2e-3)
    assert len(notes["center"]) == 64


def test_a_catalogue_without_any_title_is_all_zeros(tmp_path):
    vectors, notes = run(tmp_path, [None, None], center=True)
    assert not vectors.any()
    assert notes["center"] == []
