"""The decompressed beginning of a file: plain, gzip, or a member of a zip archive.

Reads at most about one megabyte of a file, and the directory of a zip archive. Returns its bytes with the way to them.
"""

import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

MOST_BYTES = 1 << 20
_MOST_DIRECTORY_BYTES = 1 << 22  # of a zip archive: some 40,000 members
_MOST_MEMBERS = 40
_END_OF_ZIP = b"PK\x05\x06"


@dataclass(frozen=True, kw_only=True)
class Beginning:
    """The first bytes of a file, decompressed.

    `whole` is True if they are all of it; `name` is the file's or member's name without the suffix of the compression;
    `inside` says where they were found, such as " in gzip".
    """

    data: bytes
    whole: bool
    name: str
    inside: str = ""


def read_beginning(path: Path) -> Beginning:
    """The first megabyte of a file; decompressed if it is gzip.

    Raises:
        OSError: The file cannot be read.
    """
    with path.open("rb") as stream:
        data = stream.read(MOST_BYTES)
        whole = not stream.read(1)
    return inflated(Beginning(data=data, whole=whole, name=path.name))


def inflated(one: Beginning) -> Beginning:
    """The beginning of the content of a gzip file; any other one as it is."""
    if not one.data.startswith(b"\x1f\x8b"):
        return one
    inflater = zlib.decompressobj(wbits=31)
    try:
        data = inflater.decompress(one.data, MOST_BYTES)
    except zlib.error:
        data = b""
    name = one.name.removesuffix(".gz").removesuffix(".gzip")
    return Beginning(data=data, whole=inflater.eof and one.whole, name=name, inside=f"{one.inside} in gzip")


def zip_members(path: Path) -> list[str]:
    """The names of the files in a zip archive, without the remains of desktop programs; empty if it is damaged."""
    try:
        if _directory_bytes(path) > _MOST_DIRECTORY_BYTES:
            return []
        with zipfile.ZipFile(path) as archive:
            names = [member.filename for member in archive.infolist() if not member.is_dir()]
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile, OverflowError):
        return []
    return [name for name in names if not is_left_behind(name)]


def is_left_behind(name: str) -> bool:
    """Whether a member of an archive is what a desktop program left beside the files."""
    return "__MACOSX" in name or PurePosixPath(name).name.startswith(".")


def member_beginnings(path: Path, names: list[str]) -> list[Beginning]:
    """The beginnings of up to 40 members of a zip archive that can be read."""
    found = []
    for name in names[:_MOST_MEMBERS]:
        try:
            with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
                data = stream.read(MOST_BYTES)
                whole = not stream.read(1)
        except (OSError, ValueError, RuntimeError, KeyError, EOFError, zlib.error, zipfile.BadZipFile):
            continue  # encrypted, of another compression, or damaged
        one = Beginning(data=data, whole=whole, name=PurePosixPath(name).name, inside=" in a zip archive")
        found.append(inflated(one))
    return found


def _directory_bytes(path: Path) -> int:
    """The size of the directory of a zip archive, as its last record says."""
    with path.open("rb") as stream:
        size = stream.seek(0, io.SEEK_END)
        stream.seek(max(size - (1 << 16) - 22, 0))
        tail = stream.read()
    at = tail.rfind(_END_OF_ZIP)
    return int.from_bytes(tail[at + 12 : at + 16], "little") if at >= 0 else size
