import io
import struct
import tarfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from features import images, stage
from features.clip import ClipParams, Encoder, load_encoder
from features.decoding import PhotoLimits, Rejection
from features.decoding import decode as judge
from features.errors import InputError
from features.photos import PhotoStore
from features.schema import CATALOGUE, PHOTO_REJECT_REASONS, PHOTO_REJECTS, embeddings
from features.seeds import rng
from features.tables import Provenance, from_rows, read_manifest, read_table, write_table
from features.vectors import read_vectors
from pipelines.sample_photos import photo

CLIP = {"model": "vip5-tiny", "device": "cpu"}
COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (40, 60, 220)}


def encoded(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()


def drawing(colour: str = "red", size: tuple[int, int] = (60, 40)) -> Image.Image:
    """A coloured picture whose upper left quarter is white."""
    image = Image.new("RGB", size, COLOURS[colour])
    image.paste("white", (0, 0, size[0] // 2, size[1] // 2))
    return image


def bomb() -> bytes:
    """A PNG of a few dozen bytes that claims 40,000 x 40,000 pixels."""
    header = b"IHDR" + struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    data = b"IDAT" + zlib.compress(b"")
    chunks = b"".join(
        struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
        for part in (header, data, b"IEND")
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


def decode(data: bytes, limits: PhotoLimits = PhotoLimits()) -> Image.Image | Rejection:
    found = judge(data, limits)
    return found if isinstance(found, Rejection) else found.image


JPEG = encoded(drawing())
REJECTED = {
    "empty": b"",
    "not_an_image": b"<html><body>404</body></html>",
    "truncated": JPEG[: len(JPEG) // 2],
    "too_large": bomb(),
    "absurd_aspect": encoded(drawing(size=(2000, 20))),
    "too_small": encoded(drawing(size=(15, 40))),
    "placeholder": encoded(Image.new("RGB", (50, 50), (200, 200, 200))),
}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(ClipParams(**CLIP))


@pytest.mark.parametrize("reason", REJECTED)
def test_a_bad_photo_is_refused_with_its_reason(reason):
    found = decode(REJECTED[reason], PhotoLimits())
    assert isinstance(found, Rejection)
    assert found.reason == reason
    assert len(found.detail) <= 200


@pytest.mark.parametrize("cut", [4, 20, 100, 300])
def test_a_jpeg_cut_anywhere_is_truncated(cut):
    assert decode(JPEG[:cut], PhotoLimits()).reason == "truncated"


def test_a_png_cut_within_its_pixels_is_truncated():
    png = encoded(drawing(), "PNG")
    assert {decode(png[:cut], PhotoLimits()).reason for cut in range(8, png.index(b"IEND") - 16)} == {"truncated"}


def test_a_file_of_too_many_bytes_is_refused_before_it_is_opened():
    assert decode(JPEG, PhotoLimits(max_megabytes=1e-5)).reason == "too_large"


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "CMYK", "RGBA", "LA", "1", "I;16", "I"])
def test_every_colour_mode_becomes_eight_bit_rgb(mode):
    grey = drawing().convert("L")
    if mode in {"I;16", "I"}:
        levels = np.asarray(grey).astype(np.uint16) * 257
        source = encoded(Image.fromarray(levels if mode == "I;16" else levels.astype(np.int32)), "TIFF")
    else:
        source = encoded(drawing().convert(mode), "TIFF" if mode in {"CMYK", "LA"} else "PNG")
    found = decode(source, PhotoLimits())
    assert found.mode == "RGB"
    assert found.getpixel((2, 2)) == (255, 255, 255)
    assert found.getpixel((58, 38)) != (255, 255, 255)
    if mode in {"L", "LA", "I;16", "I"}:
        assert found.getpixel((58, 38)) == (grey.getpixel((58, 38)),) * 3


def test_transparent_parts_become_white():
    image = Image.new("RGBA", (40, 40), (200, 0, 0, 255))
    image.paste((0, 0, 0, 0), (0, 0, 20, 20))
    found = decode(encoded(image, "PNG"), PhotoLimits())
    assert (found.getpixel((5, 5)), found.getpixel((30, 30))) == ((255, 255, 255), (200, 0, 0))


@pytest.mark.parametrize(
    ("orientation", "size", "white"),
    [(1, (60, 40), (2, 2)), (3, (60, 40), (57, 37)), (6, (40, 60), (37, 2)), (8, (40, 60), (2, 57))],
)
def test_exif_rotation_is_applied(orientation, size, white):
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = decode(encoded(drawing(), exif=exif), PhotoLimits())
    assert found.size == size
    assert min(found.getpixel(white)) > 230


@pytest.mark.filterwarnings("ignore:.*EXIF:UserWarning")
def test_a_broken_exif_block_spoils_no_photo():
    exif = b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40
    assert decode(encoded(drawing(), exif=exif), PhotoLimits()).size == (60, 40)


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(st.lists(st.tuples(st.integers(0, len(JPEG) - 1), st.integers(0, 255)), max_size=8), st.integers(0, len(JPEG)))
def test_whatever_the_bytes_there_is_an_rgb_image_or_a_reason(changes, length):
    data = bytearray(JPEG)
    for place, value in changes:
        data[place] = value
    found = decode(bytes(data[:length]), PhotoLimits())
    assert found.reason in PHOTO_REJECT_REASONS if isinstance(found, Rejection) else found.mode == "RGB"


def test_untrained_features_of_the_samples_photos_tell_the_styles_apart(encoder):
    styles = np.arange(160) % 8
    drawn = [photo(int(n) % 6, int(s), 8, 96, rng(0, "photo", n)) for n, s in enumerate(styles)]
    features = encoder.encode_images([decode(data, PhotoLimits()) for data in drawn])
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


def test_rows_follow_their_items_however_the_catalogue_is_ordered(tmp_path, encoder):
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


def test_the_table_does_not_depend_on_the_number_of_threads(tmp_path):
    parts = []
    for workers in (1, 4):
        root = tmp_path / str(workers)
        shop(root, KEYS)
        images.run(images.Params(batch_size=4, workers=workers), context(root))
        parts.append((root / "data/shop/images/embeddings/part-00000.parquet").read_bytes())
    assert parts[0] == parts[1]


def test_a_dataset_without_photos_has_missing_rows_of_the_encoders_width(tmp_path):
    catalogue(tmp_path, ["B1", "B2"])
    assert images.run(images.Params(), context(tmp_path, photos=None)) == 2
    table = read_table(tmp_path / "data/shop/images/embeddings", embeddings)
    assert table.schema.field("embedding").type.list_size == 64
    assert table["status"].to_pylist() == ["missing", "missing"]


def test_an_absent_photo_folder_fails_before_any_table_is_written(tmp_path):
    catalogue(tmp_path, ["B1"])
    with pytest.raises(InputError, match="no photo folder"):
        images.run(images.Params(), context(tmp_path))
    assert not (tmp_path / "data/shop/images").exists()


def test_centred_features_have_mean_zero_and_the_manifest_keeps_the_mean(tmp_path, encoder):
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


def test_a_picture_that_stands_for_many_items_is_a_placeholder(tmp_path, encoder):
    for number in range(4):
        (tmp_path / f"B{number}.jpg").write_bytes(encoded(drawing("red" if number else "blue")))
    keys = ["B0", "B1", "B2", "B3"]
    XX
    assert features.statuses == ["ok", "rejected", "rejected", "rejected"]
    assert features.rejections[1][1] == Rejection(reason="placeholder", detail="the same photo as 2 other items")
    assert not features.vectors[1:].any()
