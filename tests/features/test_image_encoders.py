"""The stages `images` and `texts` with encoders of other libraries, one or several."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from features import images, texts
from features.encoders.config import ClipParams
from features.encoders.loading import load_image_encoder
from features.runtime import stage
from features.schema import CATALOGUE, embeddings, text_embeddings
from features.store.embeddings import read_vectors, unit_rows
from features.store.tables import Provenance, from_rows, read_manifest, read_table, write_table
from features.vision.image_decoding import PhotoLimits, decode
from tests.features.made_photos import drawing, encoded

TIMM = {"model": "timm/test_vit", "pretrained": "untrained", "device": "cpu"}
BOTH = TIMM | {"also": [{"model": "timm/test_resnet", "pretrained": "untrained"}]}
FILES = {f"B{number}": encoded(drawing(size=(300 + 40 * number, 200))) for number in range(5)} | {"B5": b"<html>"}


def shop(root: Path, clip: dict[str, object]) -> stage.Context:
    """A catalogue of six items with a title, five with a photo and one with a broken one."""
    rows = [
        {"item_id": n, "item_key": key, "title": f"Item {n}", "num_interactions": 1, "num_train": 1}
        | dict.fromkeys(("brand", "category"))
        for n, key in enumerate(FILES, 1)
    ]
    provenance = Provenance(stage="t", params={})
    write_table(root / "data/shop/sequences/items", CATALOGUE, from_rows(CATALOGUE, rows), provenance)
    folder = root / "data/raw/shop/photos"
    folder.mkdir(parents=True, exist_ok=True)
    for key, data in FILES.items():
        (folder / f"{key}.jpg").write_bytes(data)
    dataset = {"format": "amazon2014", "reviews": ["r.gz"], "metadata": [], "photos": "photos"}
    return stage.Context(dataset="shop", root=root, seed=1, shared={"clip": clip, "datasets": dataset})


def table(root: Path) -> tuple[np.ndarray, list[str], dict[str, object]]:
    """Vectors, statuses and notes of the table of photos."""
    folder = root / "data/shop/images/embeddings"
    statuses = read_table(folder, embeddings)["status"].to_pylist()
    return read_vectors(folder, embeddings)[1], statuses, read_manifest(folder)["notes"]


def part(root: Path) -> bytes:
    return (root / "data/shop/images/embeddings/part-00000.parquet").read_bytes()


def alone(model: str) -> np.ndarray:
    """Features of the whole photos by one encoder."""
    encoder = load_image_encoder(ClipParams(model=model, pretrained="untrained", device="cpu"))
    return encoder.encode_images([decode(data, PhotoLimits()).image for data in list(FILES.values())[:5]])


def test_a_timm_model_makes_the_table_and_is_described(tmp_path):
    images.run(images.Params(jpeg_draft_factor=None), shop(tmp_path, TIMM))
    vectors, statuses, notes = table(tmp_path)
    assert statuses == ["ok"] * 5 + ["rejected"]
    np.testing.assert_allclose(vectors[:5], alone("timm/test_vit"), atol=2e-3)
    assert notes["encoder"]["model"] == "timm/test_vit"
    assert notes["encoder"]["feature"] == "pooled output of width 64"


def test_batches_workers_and_resuming_do_not_matter(tmp_path):
    images.run(images.Params(), shop(tmp_path / "a", BOTH))
    images.run(images.Params(batch_size=64, workers=1, photos_per_shard=2), shop(tmp_path / "b", BOTH))
    assert part(tmp_path / "a") == part(tmp_path / "b")
    for folder in sorted((tmp_path / "b/work/features").iterdir()):
        next(folder.glob("shard-*.parquet")).unlink()
    images.run(images.Params(), shop(tmp_path / "b", BOTH))
    assert part(tmp_path / "a") == part(tmp_path / "b")
    images.run(images.Params(batch_size=3), shop(tmp_path / "c", BOTH))
    np.testing.assert_allclose(table(tmp_path / "c")[0], table(tmp_path / "a")[0], atol=1e-3)


def test_features_of_two_encoders_stand_side_by_side(tmp_path):
    images.run(images.Params(jpeg_draft_factor=None), shop(tmp_path, BOTH))
    vectors, statuses, notes = table(tmp_path)
    assert statuses == ["ok"] * 5 + ["rejected"]
    first, second = alone("timm/test_vit"), alone("timm/test_resnet")
    np.testing.assert_allclose(vectors[:5], np.hstack([first, second]) / np.sqrt(2), atol=2e-3)
    np.testing.assert_allclose(unit_rows(vectors[:5, 64:]), second, atol=4e-3)
    assert [one["model"] for one in notes["encoder"]["encoders"]] == ["timm/test_vit", "timm/test_resnet"]
    assert (notes["encoder"]["pretrained"], notes["encoder"]["untrained"]) == ("untrained + untrained", True)


def test_a_second_encoder_encodes_nothing_again(tmp_path, monkeypatch):
    images.run(images.Params(), shop(tmp_path, TIMM))
    loaded: list[str] = []

    def load(clip, tower):
        loaded.append(tower.model)
        return load_image_encoder(clip, tower)

    monkeypatch.setattr(images, "load_image_encoder", load)
    images.run(images.Params(), shop(tmp_path, BOTH))
    assert loaded == ["timm/test_resnet"]
    images.run(images.Params(), shop(tmp_path, BOTH))
    assert loaded == ["timm/test_resnet"]


def test_processes_share_the_photos_of_every_encoder(tmp_path, monkeypatch):
    images.run(images.Params(), shop(tmp_path / "one", BOTH))
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    second = images.run(images.Params(), shop(tmp_path / "two", BOTH))
    assert 0 < second < 12
    monkeypatch.setenv("RANK", "0")
    assert images.run(images.Params(), shop(tmp_path / "two", BOTH)) == 6
    assert part(tmp_path / "one") == part(tmp_path / "two")


@pytest.mark.parametrize("center", [False, True])
def test_an_image_model_alone_gives_no_title_features(tmp_path, caplog, center):
    caplog.set_level("INFO", logger="vip5")
    assert texts.run(texts.Params(center=center), shop(tmp_path, TIMM)) == 6
    _, vectors = read_vectors(tmp_path / "data/shop/texts", text_embeddings)
    assert vectors.tolist() == [[0.0]] * 6
    notes = read_manifest(tmp_path / "data/shop/texts")["notes"]
    assert notes["encoder"]["model"] == "none (clip.text_model is not set)"
    assert notes["counts"] == {"items": 6, "with_title": 6, "without": 0}
    assert "timm/test_vit does not encode texts: no title features; clip.text_model names" in caplog.text


def test_titles_have_an_encoder_of_their_own(tmp_path):
    texts.run(texts.Params(), shop(tmp_path / "a", {"model": "vip5-tiny", "device": "cpu"}))
    chosen = replace(shop(tmp_path / "b", TIMM), shared={"clip": TIMM | {"text_model": "vip5-tiny"}})
    texts.run(texts.Params(), chosen)
    ours, expected = (read_vectors(tmp_path / name / "data/shop/texts", text_embeddings)[1] for name in "ba")
    assert np.array_equal(ours, expected)
