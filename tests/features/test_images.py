import io
import os
import signal
import subprocess
import sys
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from features import images
from features.encoders.config import ClipParams
from features.encoders.embedding_cache import Shards
from features.encoders.encoder import ImageEncoder
from features.encoders.loading import load_image_encoder
from features.errors import InputError
from features.runtime import stage
from features.runtime.seeds import rng
from features.schema import CATALOGUE, PHOTO_REJECTS, embeddings
from features.store.embeddings import read_vectors
from features.store.tables import Provenance, from_rows, read_manifest, read_table, write_table
from features.vision.image_decoding import PhotoLimits, decode
from pipelines.synthetic.photos import photo
from tests.features.made_photos import COLOURS, REJECTED, animation, drawing, encoded, tracking_pixel

CLIP = {"model": "vip5-tiny", "device": "cpu"}


@pytest.fixture(scope="module")
def encoder() -> ImageEncoder:
    return load_image_encoder(ClipParams(**CLIP))


def test_untrained_features_separate_the_samples_styles(encoder):
    styles = np.arange(160) % 8
    drawn = [photo(int(n) % 6, int(s), 8, 96, rng(0, "photo", n)) for n, s in enumerate(styles)]
    features = encoder.encode_images([decode(data, PhotoLimits()).image for data in drawn])
    centroids = np.stack([features[:80][styles[:80] == style].mean(axis=0) for style in range(8)])
    found = (((features[80:, None] - centroids) ** 2).sum(axis=2)).argmin(axis=1)
    assert (found == styles[80:]).mean() > 0.95


def catalogue(root: Path, keys: list[str]) -> None:
    rows = [
        {"item_id": n, "item_key": key, "num_interactions": 1, "num_train": 1}
        | dict.fromkeys(("title", "brand", "category"))
        for n, key in enumerate(keys, 1)
    ]
    write_table(
        root / "data/shop/sequences/items", CATALOGUE, from_rows(CATALOGUE, rows), Provenance(stage="t", params={})
    )


def context(root: Path, photos: str | None = "photos") -> stage.Context:
    dataset = {"format": "amazon2014", "reviews": ["r.gz"], "metadata": [], "photos": photos}
    return stage.Context(dataset="shop", root=root, seed=1, shared={"clip": CLIP, "datasets": dataset})


def shop(root: Path, keys: list[str]) -> None:
    """A catalogue of `keys`; B-red, B-green, B-blue have photos, every reject reason has an item of its name."""
    catalogue(root, keys)
    folder = root / "data/raw/shop/photos"
    folder.mkdir(parents=True)
    for colour in COLOURS:
        (folder / f"B-{colour}.jpg").write_bytes(encoded(drawing(colour)))
    for reason, data in REJECTED.items():
        (folder / f"{reason}.jpg").write_bytes(data)
    (folder / "not_a_file.jpg").mkdir()
    with tarfile.open(folder / "more.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("../unsafe_name.jpg"))


KEYS = ["B-red", "unknown", *REJECTED, "B-green", "not_a_file", "unsafe_name", "B-blue"]


def test_every_item_has_a_row_and_every_refused_photo_its_reason(tmp_path):
    shop(tmp_path, KEYS)
    assert images.run(images.Params(batch_size=3), context(tmp_path)) == len(KEYS)
    rows = read_table(tmp_path / "data/shop/images/embeddings", embeddings).to_pylist()
    assert [row["item_id"] for row in rows] == list(range(1, len(KEYS) + 1))
    status = {key: row["status"] for key, row in zip(KEYS, rows, strict=True)}
    assert {key for key in KEYS if status[key] == "ok"} == {"B-red", "B-green", "B-blue"}
    assert {key for key in KEYS if status[key] == "missing"} == {"unknown"}
    rejects = read_table(tmp_path / "data/shop/images/rejects", PHOTO_REJECTS).to_pylist()
    assert {KEYS[row["item_id"] - 1]: row["reason"] for row in rejects} == {
        name: name for name in (*REJECTED, "not_a_file", "unsafe_name")
    }
    for row in rows:
        assert any(row["embedding"]) == (row["status"] == "ok")
    digests = {key: row["sha256"] for key, row in zip(KEYS, rows, strict=True)}
    assert digests["empty"] == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert [key for key in KEYS if digests[key] is None] == ["unknown", "not_a_file", "unsafe_name"]
    notes = read_manifest(tmp_path / "data/shop/images/embeddings")["notes"]
    assert notes["counts"] == {"items": 13, "ok": 3, "missing": 1, "rejected": 9}
    assert notes["encoder"]["untrained"] is True
    assert sum(notes["reasons"].values()) == 9


def test_rows_follow_their_items_in_any_catalogue_order(tmp_path, encoder):
    by_key = {}
    for number, keys in enumerate((KEYS, KEYS[::-1])):
        root = tmp_path / str(number)
        shop(root, keys)
        images.run(images.Params(batch_size=4), context(root))
        _, vectors = read_vectors(root / "data/shop/images/embeddings", embeddings)
        by_key[number] = dict(zip(keys, vectors, strict=True))
    for key in KEYS:
        np.testing.assert_allclose(by_key[0][key], by_key[1][key], atol=2e-3)
    for colour in COLOURS:
        photo = Image.open(io.BytesIO(encoded(drawing(colour))))
        np.testing.assert_allclose(by_key[0][f"B-{colour}"], encoder.encode_images([photo])[0], atol=2e-3)


def part(root: Path) -> bytes:
    """The bytes of the finished table."""
    return (root / "data/shop/images/embeddings/part-00000.parquet").read_bytes()


def drawn_shop(root: Path, count: int = 11) -> list[str]:
    """A catalogue whose items have different photos, but for the last two, which share one."""
    keys = [f"B{number:02d}" for number in range(count)]
    catalogue(root, keys)
    folder = root / "data/raw/shop/photos"
    folder.mkdir(parents=True)
    for number, key in enumerate(keys):
        (folder / f"{key}.jpg").write_bytes(encoded(drawing(size=(50 + min(number, count - 2), 40))))
    return keys


@pytest.fixture
def encoded_keys(monkeypatch) -> list[str]:
    """The items whose photos were encoded, in order, filled as the stage runs."""
    told: list[str] = []
    original = images.encode_photos

    def noted(jobs):
        for job in jobs:
            told.append(job.photo.item_key)
            yield job

    monkeypatch.setattr(images, "encode_photos", lambda jobs, *rest: original(noted(jobs), *rest))

    return told


@pytest.mark.parametrize(
    "params",
    [
        {"workers": 4, "batch_size": 3},
        {"batch_size": 1, "photos_per_shard": 2},
        {"decoders": "processes", "workers": 2, "batch_size": 64},
    ],
)
def test_the_tables_bytes_depend_on_no_worker_batch_or_shard(tmp_path, params):
    shop(tmp_path / "a", KEYS)
    shop(tmp_path / "b", KEYS)
    images.run(images.Params(workers=1, batch_size=4), context(tmp_path / "a"))
    images.run(images.Params(**params), context(tmp_path / "b"))
    assert part(tmp_path / "a") == part(tmp_path / "b")


def test_equal_photos_are_encoded_once(tmp_path, encoded_keys, monkeypatch):
    keys = drawn_shop(tmp_path)
    images.run(images.Params(batch_size=4), context(tmp_path))
    assert encoded_keys == keys[:-1]
    _, vectors = read_vectors(tmp_path / "data/shop/images/embeddings", embeddings)
    assert np.array_equal(vectors[-1], vectors[-2])
    assert len(np.unique(vectors, axis=0)) == len(keys) - 1
    before = part(tmp_path)
    monkeypatch.setattr(
        images, "load_image_encoder", lambda clip, tower: pytest.fail("an encoder was loaded for nothing")
    )
    images.run(images.Params(batch_size=4), context(tmp_path))
    assert part(tmp_path) == before


def test_a_changed_photo_and_a_new_item_cost_themselves(tmp_path, encoded_keys):
    keys = drawn_shop(tmp_path)
    images.run(images.Params(), context(tmp_path))
    _, before = read_vectors(tmp_path / "data/shop/images/embeddings", embeddings)
    encoded_keys.clear()
    folder = tmp_path / "data/raw/shop/photos"
    (folder / f"{keys[3]}.jpg").write_bytes(encoded(drawing("green")))
    (folder / "A00.jpg").write_bytes(encoded(drawing("blue")))
    (folder / f"{keys[5]}.jpg").rename(folder / f"{keys[5]}.jpeg")
    catalogue(tmp_path, ["A00", *keys])
    images.run(images.Params(), context(tmp_path))
    assert encoded_keys == ["A00", keys[3]]
    _, after = read_vectors(tmp_path / "data/shop/images/embeddings", embeddings)
    assert [row for row in range(len(keys)) if not np.array_equal(before[row], after[row + 1])] == [3]
    fresh = tmp_path / "fresh"
    (tmp_path / "work").rename(tmp_path / "old")
    images.run(images.Params(), context(tmp_path))
    assert not fresh.exists()
    assert np.array_equal(read_vectors(tmp_path / "data/shop/images/embeddings", embeddings)[1], after)


@pytest.mark.parametrize("change", ["model", "preprocessing", "limits", "nothing"])
def test_another_encoder_or_preprocessing_recomputes_all(tmp_path, encoded_keys, change):
    keys = drawn_shop(tmp_path)
    images.run(images.Params(), context(tmp_path))
    encoded_keys.clear()
    params, here = images.Params(), context(tmp_path)
    if change == "model":
        here = replace(here, shared=here.shared | {"clip": CLIP | {"seed": 1}})
    elif change == "preprocessing":
        params = images.Params(jpeg_draft_factor=None)
    elif change == "limits":
        params = images.Params(limits=PhotoLimits(min_side=20))
    else:
        params = images.Params(batch_size=5, center=True, max_items_per_photo=3, workers=1)
    images.run(params, here)
    assert encoded_keys == ([] if change == "nothing" else keys[:-1])


class Killed(BaseException):
    """Stands for a process that ends at once."""


@pytest.mark.parametrize("finished", [0, 1, 2])
def test_a_run_cut_off_loses_one_shard_at_most(tmp_path, encoded_keys, monkeypatch, finished):
    drawn_shop(tmp_path / "whole")
    keys = drawn_shop(tmp_path / "cut")
    params = images.Params(batch_size=2, photos_per_shard=4)
    images.run(params, context(tmp_path / "whole"))
    add, count = Shards.add, iter(range(9))

    def deadly(self, outcomes, vectors):
        if next(count) == finished:
            raise Killed
        return add(self, outcomes, vectors)

    monkeypatch.setattr(Shards, "add", deadly)
    with pytest.raises(Killed):
        images.run(params, context(tmp_path / "cut"))
    assert not (tmp_path / "cut/data/shop/images").exists()
    monkeypatch.setattr(Shards, "add", add)
    encoded_keys.clear()
    images.run(params, context(tmp_path / "cut"))
    assert encoded_keys == keys[4 * finished : -1]
    assert part(tmp_path / "cut") == part(tmp_path / "whole")


def test_processes_share_photos_and_rank_0_writes_the_table(tmp_path, encoded_keys, monkeypatch):
    keys = drawn_shop(tmp_path / "one")
    drawn_shop(tmp_path / "two")
    images.run(images.Params(), context(tmp_path / "one"))
    encoded_keys.clear()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    second = images.run(images.Params(), context(tmp_path / "two"))
    assert second == len(encoded_keys) > 0
    assert not (tmp_path / "two/data/shop/images").exists()
    monkeypatch.setenv("RANK", "0")
    assert images.run(images.Params(), context(tmp_path / "two")) == len(keys)
    assert sorted(encoded_keys) == keys[:-1]
    assert encoded_keys != keys[:-1]
    assert part(tmp_path / "one") == part(tmp_path / "two")


PROCESS = """
import os, signal, sys
from pathlib import Path
from features import images
from features.runtime import stage
from features.encoders.embedding_cache import Shards
root, suicidal = Path(sys.argv[1]), sys.argv[2] == "dies"
dataset = {"format": "amazon2014", "reviews": ["r.gz"], "metadata": [], "photos": "photos"}
clip = {"model": "vip5-tiny", "device": "cpu"}
if suicidal:
    add = Shards.add
    def deadly(self, outcomes, vectors):
        add(self, outcomes, vectors)
        os.kill(os.getpid(), signal.SIGKILL)
    Shards.add = deadly
params = images.Params(batch_size=2, photos_per_shard=2, workers=1, max_wait_seconds=600)
images.run(params, stage.Context(dataset="shop", root=root, seed=1, shared={"clip": clip, "datasets": dataset}))
"""


@pytest.mark.slow
def test_a_killed_and_restarted_process_gives_the_same_bytes(tmp_path, root):
    drawn_shop(tmp_path / "one", 24)
    drawn_shop(tmp_path / "two", 24)
    images.run(images.Params(), context(tmp_path / "one"))

    def start(rank: int, fate: str) -> subprocess.Popen[bytes]:
        world = os.environ | {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
        return subprocess.Popen([sys.executable, "-c", PROCESS, str(tmp_path / "two"), fate], env=world, cwd=root)

    first, second = start(0, "lives"), start(1, "dies")
    try:
        assert second.wait(400) == -signal.SIGKILL
        assert first.poll() is None  # it waits for the other's photos
        assert not (tmp_path / "two/data/shop/images").exists()
        assert start(1, "lives").wait(400) == 0
        assert first.wait(400) == 0
    finally:
        for process in (first, second):
            process.kill()
            process.wait()
    assert part(tmp_path / "two") == part(tmp_path / "one")


def test_without_photos_all_rows_are_missing(tmp_path):
    catalogue(tmp_path, ["B1", "B2"])
    assert images.run(images.Params(), context(tmp_path, photos=None)) == 2
    table = read_table(tmp_path / "data/shop/images/embeddings", embeddings)
    assert table.schema.field("embedding").type.list_size == 64
    assert table["status"].to_pylist() == ["missing", "missing"]


def test_ready_vectors_are_taken_instead_of_photos(tmp_path):
    catalogue(tmp_path, ["B1", "B2", "B3", "B4"])
    folder = tmp_path / "data/raw/shop/vectors"
    folder.mkdir(parents=True)
    np.save(folder / "B1.npy", np.array([3.0, 4.0], np.float32), allow_pickle=False)
    np.save(folder / "B4.npy", np.array([[0.0, 2.0]], np.float16), allow_pickle=False)
    np.save(folder / "stranger.npy", np.array([1.0, 1.0], np.float32), allow_pickle=False)
    (folder / "B2.npy").write_bytes(b"<html>gone</html>")
    place = context(tmp_path, photos=None)
    place.shared["datasets"]["vectors"] = "vectors"
    assert images.run(images.Params(), place) == 4
    ids, vectors = read_vectors(tmp_path / "data/shop/images/embeddings", embeddings)
    assert ids.tolist() == [1, 2, 3, 4]
    np.testing.assert_allclose(vectors, [[0.6, 0.8], [0, 0], [0, 0], [0, 1]], atol=1e-3)
    statuses, _ = outcomes(tmp_path)
    assert list(statuses.values()) == ["ok", "rejected", "missing", "ok"]
    rejects = read_table(tmp_path / "data/shop/images/rejects", PHOTO_REJECTS).to_pylist()
    assert [(row["item_id"], row["source"], row["reason"]) for row in rejects] == [(2, "B2.npy", "not_a_vector")]
    notes = read_manifest(tmp_path / "data/shop/images/embeddings")["notes"]
    assert (notes["encoder"]["model"], notes["photos_of_no_item"]) == ("unknown (vectors read from vectors)", 1)


def test_a_missing_photo_folder_fails_before_writing(tmp_path):
    catalogue(tmp_path, ["B1"])
    with pytest.raises(InputError, match="no photo folder"):
        images.run(images.Params(), context(tmp_path))
    assert not (tmp_path / "data/shop/images").exists()


def test_centred_features_have_mean_zero(tmp_path, encoder):
    shop(tmp_path, KEYS)
    images.run(images.Params(center=True), context(tmp_path))
    ids, vectors = read_vectors(tmp_path / "data/shop/images/embeddings", embeddings)
    ok = np.any(vectors != 0, axis=1)
    assert [KEYS[item_id - 1] for item_id in ids[ok]] == ["B-red", "B-green", "B-blue"]
    mean = np.array(read_manifest(tmp_path / "data/shop/images/embeddings")["notes"]["center"])
    raw = encoder.encode_images([Image.open(io.BytesIO(encoded(drawing(colour)))) for colour in COLOURS])
    np.testing.assert_allclose(mean, raw.mean(axis=0), atol=1e-5)
    expected = (raw - mean) / np.linalg.norm(raw - mean, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors[ok], expected, atol=2e-3)


def outcomes(root: Path) -> tuple[dict[str, str], dict[int, str]]:
    """Status by item key, and reject details by item number."""
    rows = read_table(root / "data/shop/images/embeddings", embeddings).to_pylist()
    keys = read_table(root / "data/shop/sequences/items", CATALOGUE)["item_key"].to_pylist()
    rejects = read_table(root / "data/shop/images/rejects", PHOTO_REJECTS).to_pylist()
    for row in rows:
        assert any(row["embedding"]) == (row["status"] == "ok")
    return (
        {key: row["status"] for key, row in zip(keys, rows, strict=True)},
        {row["item_id"]: row["detail"] for row in rejects if row["reason"] == "placeholder"},
    )


def test_a_picture_that_stands_for_many_items_is_a_placeholder(tmp_path):
    drawn_shop(tmp_path, 4)
    folder = tmp_path / "data/raw/shop/photos"
    (folder / "B01.jpg").write_bytes((folder / "B02.jpg").read_bytes())
    images.run(images.Params(max_items_per_photo=3), context(tmp_path))
    assert set(outcomes(tmp_path)[0].values()) == {"ok"}
    images.run(images.Params(max_items_per_photo=2), context(tmp_path))
    assert outcomes(tmp_path) == (
        {"B00": "ok", "B01": "rejected", "B02": "rejected", "B03": "rejected"},
        dict.fromkeys((2, 3, 4), "the same photo as 2 other items"),
    )


def test_a_listed_placeholder_is_never_decoded(tmp_path, encoded_keys):
    keys = drawn_shop(tmp_path, 3)
    digests = read_digests(tmp_path)
    encoded_keys.clear()
    (tmp_path / "work").rename(tmp_path / "old")
    images.run(images.Params(placeholders=(digests[0],)), context(tmp_path))
    assert outcomes(tmp_path) == (
        {"B00": "rejected", "B01": "ok", "B02": "ok"},
        {1: "listed in images.placeholders"},
    )
    assert encoded_keys == keys[1:2]


def read_digests(root: Path) -> list[str]:
    images.run(images.Params(), context(root))
    return read_table(root / "data/shop/images/embeddings", embeddings)["sha256"].to_pylist()


@pytest.mark.parametrize(
    "values",
    [
        {"placeholders": ("abc",)},
        {"jpeg_draft_factor": 0.5},
        {"photos_per_item": 0},
        {"batch_size": 0},
        {"workers": -1},
    ],
)
def test_parameters_out_of_range_are_refused(values):
    with pytest.raises(ValueError, match=r"must hold|is not a SHA-256"):
        images.Params(**values)


def test_odd_photos_are_used_and_the_table_says_what_was_done(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 8
    made = {
        "animated.gif": animation(), "turned.jpg": encoded(drawing("blue"), exif=exif),
        "misnamed.jpg": encoded(drawing("green"), "PNG"), "webp.webp": encoded(drawing(size=(70, 60)), "WEBP"),
        "cmyk.jpeg": encoded(drawing().convert("CMYK")), "pixel.gif": tracking_pixel(),
    }  # fmt: skip
    keys = [name.split(".")[0] for name in made]
    catalogue(tmp_path, keys)
    folder = tmp_path / "data/raw/shop/photos"
    folder.mkdir(parents=True)
    for name, data in made.items():
        (folder / name).write_bytes(data)
    images.run(images.Params(), context(tmp_path))
    rows = read_table(tmp_path / "data/shop/images/embeddings", embeddings).to_pylist()
    assert {key: row["treatment"] for key, row in zip(keys, rows, strict=True)} == {
        "animated": "first_frame", "turned": "rotated", "misnamed": "misnamed", "webp": None, "cmyk": "from_cmyk",
        "pixel": None,
    }  # fmt: skip
    notes = read_manifest(tmp_path / "data/shop/images/embeddings")["notes"]
    assert notes["reasons"] == {"too_small": 1}
    assert notes["treatments"] == {"first_frame": 1, "from_cmyk": 1, "misnamed": 1, "rotated": 1}


def test_several_photos_give_the_mean_of_usable_ones(tmp_path, encoder):
    catalogue(tmp_path, ["B1", "B2", "B3", "B4"])
    folder = tmp_path / "data/raw/shop/photos"
    folder.mkdir(parents=True)
    red, blue, green = (encoded(drawing(colour)) for colour in ("red", "blue", "green"))
    made = {
        "B1.jpg": red, "B1.1.jpg": blue, "B1.2.jpg": green, "B1.4.jpg": red,
        "B2.jpg": b"", "B2.1.jpg": blue, "B3.jpg": b"", "B3.1.jpg": b"<html>",
    }  # fmt: skip
    for name, data in made.items():
        (folder / name).write_bytes(data)
    alone = encoder.encode_images([Image.open(io.BytesIO(data)).convert("RGB") for data in (red, blue, green)])
    expected = {1: alone[0], 2: alone[:2].mean(axis=0), 9: alone.mean(axis=0)}
    for most, mean in expected.items():
        images.run(images.Params(photos_per_item=most), context(tmp_path))
        _, vectors = read_vectors(tmp_path / "data/shop/images/embeddings", embeddings)
        np.testing.assert_allclose(vectors[0], mean / np.linalg.norm(mean), atol=2e-3)
        statuses = read_table(tmp_path / "data/shop/images/embeddings", embeddings)["status"].to_pylist()
        assert statuses == ["ok", "rejected" if most == 1 else "ok", "rejected", "missing"]
    rejects = read_table(tmp_path / "data/shop/images/rejects", PHOTO_REJECTS).to_pylist()
    assert [(row["item_id"], row["source"]) for row in rejects] == [(2, "B2.jpg"), (3, "B3.1.jpg"), (3, "B3.jpg")]
    notes = read_manifest(tmp_path / "data/shop/images/embeddings")["notes"]
    assert (notes["photos_in_use"], notes["photos_of_no_item"]) == (4, 1)


def test_half_precision_changes_cosines_by_under_a_thousandth(tmp_path, encoder):
    keys = drawn_shop(tmp_path)
    images.run(images.Params(), context(tmp_path))
    _, stored = read_vectors(tmp_path / "data/shop/images/embeddings", embeddings)
    folder = tmp_path / "data/raw/shop/photos"
    exact = encoder.encode_images([decode((folder / f"{key}.jpg").read_bytes(), PhotoLimits()).image for key in keys])
    cosines = (stored * exact).sum(axis=1) / np.linalg.norm(stored, axis=1) / np.linalg.norm(exact, axis=1)
    assert cosines.min() > 1 - 1e-3
    assert cosines.min() > 1 - 1e-6  # what it costs in truth
