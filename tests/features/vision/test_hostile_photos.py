import io
import struct
import tarfile
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from features.errors import InputError
from features.schema import PHOTO_REJECT_REASONS
from features.vision import image_decoding
from features.vision.hostile_structures import has_several_scans, is_inflated
from features.vision.image_decoding import FORMATS, Decoded, PhotoLimits, Rejection, decode
from features.vision.npy_features import read_vectors
from features.vision.photo_store import PhotoStore
from tests.features.made_photos import drawing, encoded

WHOLE = {kind: encoded(drawing(), kind) for kind in FORMATS} | {
    "animated GIF": encoded(drawing(), "GIF", save_all=True, append_images=[drawing("blue")]),
    "animated WEBP": encoded(drawing(), "WEBP", save_all=True, append_images=[drawing("blue")]),
    "progressive": encoded(drawing(), "JPEG", progressive=True),
    "LZW": encoded(drawing(), "TIFF", compression="tiff_lzw"),
}
JPEG = WHOLE["JPEG"]


def directory(entries: int, size: int) -> bytes:
    """A TIFF of about `size` bytes whose directory points `entries` times at all of them."""
    body = b"".join(struct.pack("<HHII", 1000 + tag, 1, size, 8) for tag in range(entries))
    return (b"II*\0" + struct.pack("<IH", 8, entries) + body).ljust(size + 8, b"\0")


def hidden(place: str) -> bytes:
    if place == "TIFF":
        return directory(5000, 200_000)
    if place == "JPEG":
        exif = directory(2700, 65_000)
        parts = [b"Exif\0\0" + exif[at : at + 60_000] for at in range(0, len(exif), 60_000)]
        segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(part) + 2) + part for part in parts)
        return JPEG[:2] + segments + JPEG[2:]
    exif, png = directory(5000, 200_000), WHOLE["PNG"]
    at = 33 if place == "PNG" else png.index(b"IEND") - 4
    chunk = struct.pack(">I", len(exif)) + b"eXIf" + exif + struct.pack(">I", zlib.crc32(b"eXIf" + exif))
    return png[:at] + chunk + png[at:]


@pytest.mark.parametrize("place", ["TIFF", "JPEG", "PNG", "PNG after its pixels"])
def test_entries_that_share_bytes_are_not_read(place, monkeypatch):
    read: list[int] = []
    load = Image.Exif.load
    monkeypatch.setattr(Image.Exif, "load", lambda self, data: read.append(len(data)) or load(self, data))
    found = decode(hidden(place), PhotoLimits())
    assert not read
    if place.startswith("PNG"):
        assert isinstance(found, Decoded)
    else:
        assert found == Rejection(reason="too_large", detail="a directory whose entries share their bytes")


def test_ordinary_exif_is_not_inflated():
    exif = Image.Exif()
    exif[0x112], exif[0x10F] = 6, "a maker" * 100
    assert not is_inflated(exif.tobytes())
    for kind in ("JPEG", "PNG", "WEBP", "TIFF"):
        found = decode(encoded(drawing(), kind, exif=exif), PhotoLimits())
        assert isinstance(found, Decoded)
        assert found.treatment == ("rotated",)


def test_endless_scans_and_comments_are_refused():
    progressive = WHOLE["progressive"]
    scans = progressive[:-2] + progressive[progressive.rindex(b"\xff\xda") : -2] * 1000 + progressive[-2:]
    found = decode(scans, PhotoLimits())
    assert isinstance(found, Rejection)
    assert (found.reason, found.detail.split(" ", 1)[1]) == ("too_large", "scans")
    gif = WHOLE["GIF"]
    start = 13 + (3 << (gif[10] & 7) + 1)
    comment = b"\x21\xfe" + (b"\xff" + b"a" * 255) * 5000 + b"\0"
    assert decode(gif[:start] + comment + gif[start:], PhotoLimits()).detail == "1280003 bytes of comments"  # type: ignore[union-attr]


@pytest.mark.parametrize(("options", "several"), [({}, False), ({"progressive": True}, True)])
def test_scans_are_told_from_the_header(options, several):
    assert has_several_scans(encoded(drawing(), "JPEG", **options)) is several


@pytest.mark.parametrize(
    "error", [MemoryError("much"), RuntimeError("odd"), AttributeError("x"), RecursionError("deep")]
)
def test_an_unexpected_error_rejects_one_photo(error, monkeypatch):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(image_decoding, "_treatment", fail)
    found = decode(JPEG, PhotoLimits())
    assert found == Rejection(reason="unreadable", detail=f"{type(error).__name__}: {error}")


@settings(max_examples=300, deadline=None)
@given(
    kind=st.sampled_from(sorted(WHOLE)), spoils=st.lists(st.tuples(st.floats(0, 1), st.binary(max_size=8)), max_size=6)
)
def test_a_spoilt_photo_is_decoded_or_rejected(kind, spoils):
    data = bytearray(WHOLE[kind])
    for share, piece in spoils:
        at = int(share * len(data))
        data[at : at + len(piece)] = piece
    found = decode(bytes(data), PhotoLimits(max_megapixels=0.5), 20)
    assert isinstance(found, Decoded) or found.reason in PHOTO_REJECT_REASONS


def header(name: bytes, size: int, kind: bytes = b"0") -> bytes:
    """A tar header; a negative size is written in base 256."""
    field = (
        b"%011o\0" % size
        if 0 <= size < 1 << 33
        else ((0xFF << 88) + (1 << 88) + size if size < 0 else (1 << 95) + size).to_bytes(12, "big")
    )
    whole = bytearray(name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + field + b"00000000000\0")
    whole = (whole + b" " * 8 + kind).ljust(257, b"\0") + b"ustar\0" + b"00"
    whole = whole.ljust(512, b"\0")
    whole[148:156] = b"%06o\0 " % sum(whole)
    return bytes(whole)


def member(name: bytes, data: bytes, kind: bytes = b"0") -> bytes:
    return header(name, len(data), kind) + data + bytes(-len(data) % 512)


GOOD = member(b"B1.jpg", JPEG)
BROKEN_TARS = {
    "back to itself": header(b"B2.jpg", -512),
    "back": header(b"B2.jpg", -1024),
    "no photo, back": header(b"x.bin", -512),
    "a name back": header(b"L", -512, b"L"),
    "a name of 8 GB": header(b"L", (1 << 33) - 1, b"L"),
    "fields of 8 GB": header(b"x", (1 << 33) - 1, b"x"),
    "nested fields": header(b"x", 0, b"x") * 3000,
    "nested names": (header(b"L", 512, b"L") + bytes(512)) * 3000,
    "beyond all": header(b"B2.jpg", 1 << 80),
    "size of fields": member(b"x", b"14 size=-1024\n", b"x") + header(b"B2.jpg", 0),
    "map of fields": member(b"x", b"26 GNU.sparse.map=1,2,3,x\n", b"x") + GOOD,
    "checksum": header(b"B2.jpg", 0)[:-1] + b"x",
}


@pytest.mark.parametrize("name", sorted(BROKEN_TARS))
def test_a_broken_header_is_one_line(name, tmp_path):
    (tmp_path / "a.tar").write_bytes(GOOD + BROKEN_TARS[name] + GOOD + bytes(1024))
    began = time.monotonic()
    with pytest.raises(InputError, match=r"archive .* that cannot be read \(.*; do: download it again"):
        PhotoStore(tmp_path)
    assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    "odd",
    [
        member(b"\xff\xfe.jpg", JPEG),
        member(b"x", b"15 path=\xff\xfe.jpg\n"[:14] + b"\n", b"x") + GOOD,
        header(b"B2.jpg", 512, b"S") + bytes(512),
    ],
)
def test_an_odd_member_leaves_the_others(odd, tmp_path):
    (tmp_path / "a.tar").write_bytes(odd + member(b"B3.jpg", JPEG) + bytes(1024))
    store = PhotoStore(tmp_path)
    assert store.bytes("B3") == JPEG
    for photo, names in store.unmatched([]):
        assert all(text.encode() for text in (photo.source, *names))


def test_a_loose_name_that_is_no_utf8_is_escaped(tmp_path):
    Path(tmp_path, "B\udcff.jpg").write_bytes(JPEG)
    store = PhotoStore(tmp_path)
    assert store.keys() == ["B\\udcff"]
    assert store.bytes("B\\udcff") == JPEG


@settings(max_examples=150, deadline=None)
@given(spoils=st.lists(st.tuples(st.integers(0, 4000), st.binary(min_size=1, max_size=12)), min_size=1, max_size=4))
def test_a_spoilt_archive_is_indexed_or_one_line(spoils, tmp_path_factory):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name in ("B1.jpg", "ü" * 120 + ".jpg", "B2.png"):
            info = tarfile.TarInfo(name)
            info.size = len(JPEG)
            tar.addfile(info, io.BytesIO(JPEG))
    data = bytearray(buffer.getvalue())
    for at, piece in spoils:
        data[at : at + len(piece)] = piece
    path = tmp_path_factory.mktemp("tar") / "a.tar"
    path.write_bytes(data)
    try:
        store = PhotoStore(path)
    except InputError:
        return
    assert all(key.encode() for key in store.keys())  # noqa: SIM118


@settings(max_examples=200, deadline=None)
@given(spoils=st.lists(st.tuples(st.integers(0, 140), st.binary(max_size=12)), max_size=4))
def test_a_spoilt_vector_is_read_or_rejected(spoils, tmp_path_factory):
    folder = tmp_path_factory.mktemp("npy")
    buffer = io.BytesIO()
    np.save(buffer, np.ones(4, np.float32))
    (folder / "B1.npy").write_bytes(buffer.getvalue())
    data = bytearray(buffer.getvalue())
    for at, piece in spoils:
        data[at : at + len(piece)] = piece
    (folder / "B2.npy").write_bytes(data)
    found = read_vectors(folder, ["B1", "B2"])
    assert found.statuses[1] in {"ok", "rejected", "missing"}
