"""Recognises files that are not text: tar archives, photos, NumPy arrays, the 2014 photo features, Parquet, pickles.

Reads their first bytes, and the last ones of a Parquet file. Nothing is unpickled or unpacked.
"""

import io
import tarfile
import warnings
from pathlib import Path, PurePosixPath

import numpy as np

from features.runtime.datasets import P5_PICKLES
from pipelines.recognition import tables
from pipelines.recognition.beginnings import Beginning
from pipelines.recognition.looks import IMAGE_SUFFIXES, Look, nothing, some

FEATURE_RECORD_BYTES = 10 + 4 * 4096
"""A record of `image_features_X.b` of the 2014 dumps: the item's key, then 4,096 float32."""

_PICTURES = {
    b"\xff\xd8\xff": "JPEG", b"\x89PNG\r\n": "PNG", b"GIF8": "GIF", b"BM": "BMP", b"II*\x00": "TIFF",
    b"MM\x00*": "TIFF",
}  # fmt: skip
_ARCHIVES = {
    b"PK\x03\x04": "a zip archive that is damaged or inside another archive",
    b"PK\x05\x06": "an empty zip archive",
    b"BZh": "a bzip2 archive; unpack it",
    b"\xfd7zXZ\x00": "an xz archive; unpack it",
    b"\x28\xb5\x2f\xfd": "a zstd archive; unpack it",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive; unpack it",
    b"Rar!": "a rar archive; unpack it",
}
_MOST_FOOTER_BYTES = 1 << 24
_MOST_MEMBERS = 200


def look_at_bytes(one: Beginning, path: Path) -> Look | None:
    """The look of a file by its first bytes, None if they belong to no known kind of binary file."""
    data = one.data
    if (picture := _picture(data)) is not None:
        return Look(format=None, kind="photos", summary=f"one {picture} photo")
    if data.startswith(b"\x93NUMPY"):
        return _array(data)
    if data.startswith(b"PAR1"):
        return _parquet(path)
    if data[257:262] == b"ustar" or one.name.lower().endswith(".tar"):
        return look_at_tar(data, one.inside)
    if (packed := next((what for magic, what in _ARCHIVES.items() if data.startswith(magic)), None)) is not None:
        return nothing(packed + one.inside)
    if data[:1] == b"\x80" and data[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"}:
        return _pickle(one)
    if not one.inside and _is_features(data, path):
        return Look(
            format=None,
            kind="vectors",
            summary="photo features of the 2014 dumps, 4,096 numbers an item (image_features_X.b)",
        )
    return None


def _picture(data: bytes) -> str | None:
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    if data.startswith(b"BM") and int.from_bytes(data[6:10], "little"):
        return None
    return next((name for magic, name in _PICTURES.items() if data.startswith(magic)), None)


def _array(data: bytes) -> Look:
    """The look of a .npy file: one vector, or a matrix of a row an item."""
    stream = io.BytesIO(data)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            version = np.lib.format.read_magic(stream)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, _, kind = read(stream)
    except Exception as error:  # noqa: BLE001 - numpy parses the header as a literal, which may fail in any way
        return nothing(f"a NumPy file with a header that cannot be read ({type(error).__name__})")
    if kind.kind not in "fiu":
        return nothing(f"a NumPy array of {kind}, where numbers are needed")
    if len(shape) == 1:
        return Look(format=None, kind="vectors", summary=f"one vector of {shape[0]} numbers (.npy)")
    if len(shape) == 2:
        return Look(
            format=None, kind="vectors", summary=f"a matrix of {shape[0]:,} vectors of {shape[1]} numbers (.npy)"
        )
    return nothing(f"a NumPy array of {len(shape)} axes, where a matrix is needed")


def _parquet(path: Path) -> Look:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with path.open("rb") as stream:
            stream.seek(-8, io.SEEK_END)
            tail = stream.read(8)
        if tail[4:] != b"PAR1" or int.from_bytes(tail[:4], "little") > _MOST_FOOTER_BYTES:
            return nothing("a Parquet file without its end")
        names = tuple(pq.read_schema(path).names)
    except (pa.ArrowException, OSError, ValueError) as error:
        return nothing(f"a Parquet file that cannot be read ({type(error).__name__})")
    return tables.with_header(names, "a Parquet table", [], path.name)


def look_at_tar(data: bytes, inside: str) -> Look:
    """The look of a tar archive by the names among its first bytes."""
    names: list[str] = []
    try:
        with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
            while len(names) < _MOST_MEMBERS and (member := archive.next()) is not None:
                if member.isfile():
                    names.append(member.name)
    except Exception as error:  # noqa: BLE001 - a cut or damaged archive fails in many ways; the names so far count
        if not names:
            return nothing(f"a tar archive that cannot be read ({type(error).__name__})")
    photos = [name for name in names if name.lower().endswith(IMAGE_SUFFIXES)]
    if photos and inside:
        return nothing(f"a tar archive of photos{inside}, which must be unpacked or stored without compression")
    if photos:
        shard = any(name.endswith(".json") for name in names) and PurePosixPath(photos[0]).stem.isdecimal()
        what = "an img2dataset shard: photos with a .json beside each" if shard else "a tar archive of photos"
        return Look(format=None, kind="photos", summary=f"{what}, such as {photos[0][:80]}")
    if names and names[0].endswith(".npy"):
        return nothing(f"a tar archive of .npy files, such as {names[0][:80]}; unpack it")
    return nothing(f"a tar archive of {some(tuple(names), 3)}; unpack it" if names else "an empty tar archive")


def _pickle(one: Beginning) -> Look:
    if one.name in P5_PICKLES:
        return Look(format="p5", kind="maps", summary=f"P5's pickle {one.name}")
    return nothing("a Python pickle, which is not read")


def _is_features(data: bytes, path: Path) -> bool:
    """Whether the file holds records of a key and 4,096 floats; the last may be cut if the name says what it is."""
    size = path.stat().st_size
    named = path.name.startswith("image_features") and path.suffix == ".b"
    if size < FEATURE_RECORD_BYTES or (size % FEATURE_RECORD_BYTES and not named):
        return False
    keys = [data[at : at + 10] for at in range(0, len(data) - 10, FEATURE_RECORD_BYTES)]
    return all(key.isalnum() and key.isascii() for key in keys)
