"""Lists the photo files of a folder: loose files, files in sub-folders, and members of tar archives.

Reads names and tar headers. Returns one `PhotoFile` per photo, with the JSON that img2dataset writes beside it.
Trade-off: archives are never unpacked, and member names are never used as paths.
"""

import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from features.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_MOST_JSON_BYTES = 1 << 16
_MOST_NAME_BYTES = 1 << 20
_PAX = (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE)
_NAMING = frozenset({tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK, *_PAX})


@dataclass(frozen=True, kw_only=True, slots=True)
class Photo:
    """Location of one photo.

    `source` is the file name in the folder, such as `photos-000.tar:B0001.jpg` for a member of an archive.
    `refusal` is unsafe_name or not_a_file if the bytes must not be read, else None.
    """

    item_key: str
    source: str
    path: Path
    offset: int
    num_bytes: int
    refusal: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class PhotoFile:
    """A photo as it lies there: `name` is its path in the folder or archive, `fields` where the JSON beside it lies."""

    photo: Photo
    name: str
    fields: tuple[Path, int, int] | None

    def read_fields(self) -> dict[str, Any]:
        """The JSON object beside the photo; empty if there is none or it is no object."""
        if self.fields is None:
            return {}
        path, offset, num_bytes = self.fields
        with path.open("rb") as stream:
            stream.seek(offset)
            data = stream.read(num_bytes)
        try:
            loaded = json.loads(data)
        except (ValueError, RecursionError):
            return {}
        return loaded if isinstance(loaded, dict) else {}


def photo_files(folder: Path) -> Iterator[PhotoFile]:
    """Lists the photos below `folder`, loose ones first, each kind by name; `folder` may be one archive.

    Raises:
        InputError: An archive is broken.
    """
    if folder.is_file():
        yield from _members(folder)
        return
    entries = sorted(_entries(folder), key=lambda path: (len(path.relative_to(folder).parts) > 1, str(path)))
    yield from _loose(folder, entries)
    for path in entries:
        if path.suffix.lower() == ".tar" and path.is_file():
            yield from _members(path)


def _entries(folder: Path) -> Iterator[Path]:
    """All files below `folder`, and folders named like a photo; hidden folders and links to folders are skipped."""
    for place, folders, files in os.walk(folder):
        for name in list(folders):
            if photo_stem(name) is not None:
                yield Path(place, name)
                folders.remove(name)
            elif name.startswith("."):
                folders.remove(name)
        yield from (Path(place, name) for name in files)


def _loose(folder: Path, entries: list[Path]) -> Iterator[PhotoFile]:
    described = {path.with_suffix("") for path in entries if path.suffix.lower() == ".json"}
    for path in entries:
        key = photo_stem(plain(path.name))
        if key is None:
            continue
        is_file = path.is_file() and not path.is_symlink()
        name = plain(path.relative_to(folder).as_posix())
        photo = Photo(
            item_key=key, source=name[:300], path=path, offset=0,
            num_bytes=path.stat().st_size if is_file else 0,
            refusal=None if is_file else "not_a_file",
        )  # fmt: skip
        beside = path.with_suffix(".json")
        known = path.with_suffix("") in described and beside.is_file() and not beside.is_symlink()
        fields = (beside, 0, beside.stat().st_size) if known and beside.stat().st_size <= _MOST_JSON_BYTES else None
        yield PhotoFile(photo=photo, name=name, fields=fields)


class _Member(tarfile.TarInfo):
    """A member whose header says how many bytes follow, and not more of a name than a name can have.

    `tarfile` goes back in the file after a negative size, and takes the rest of the archive for a name.
    """

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Member":
        try:
            found = super().frombuf(buf, encoding, errors)
        except (tarfile.EOFHeaderError, tarfile.EmptyHeaderError, tarfile.TruncatedHeaderError):  # type: ignore[attr-defined]
            raise
        except tarfile.HeaderError as error:  # elsewhere the end of the archive
            raise tarfile.ReadError(f"a damaged header, {error}") from error
        longest = _MOST_NAME_BYTES if found.type in _NAMING else 1 << 62
        if not 0 <= found.size <= longest:
            raise tarfile.ReadError(f"a header of {found.size} bytes")
        return found


def _members(archive: Path) -> list[PhotoFile]:
    """The photos of an uncompressed tar, read from its headers."""
    size = archive.stat().st_size
    found: list[tuple[Photo, str]] = []
    fields: dict[str, tuple[Path, int, int]] = {}
    try:
        with tarfile.open(archive, "r:", tarinfo=_Member) as tar:
            last = -1
            for member in tar:
                if member.size < 0 or member.offset <= last:
                    raise tarfile.ReadError(f"{plain(member.name)} of {member.size} bytes")
                last = member.offset
                name = plain(member.name).replace("\\", "/")
                whole = member.offset_data + member.size <= size
                if name.endswith(".json") and member.isreg() and whole and member.size <= _MOST_JSON_BYTES:
                    fields[name.removesuffix(".json")] = (archive, member.offset_data, member.size)
                key = photo_stem(name.rpartition("/")[2])
                if key is None:
                    continue
                if not whole and member.isreg():
                    raise tarfile.ReadError(f"{name} reaches beyond the end")
                photo = Photo(
                    item_key=key, source=f"{plain(archive.name)}:{plain(member.name)}"[:300], path=archive,
                    offset=member.offset_data, num_bytes=member.size, refusal=_refusal(member),
                )  # fmt: skip
                found.append((photo, name))
    except (tarfile.TarError, EOFError, OSError, ValueError, RecursionError, OverflowError) as error:
        raise InputError(
            f"archive {archive} that cannot be read ({error})", "an uncompressed, complete .tar",
            "download it again, or repack it without compression",
        ) from error  # fmt: skip
    return [PhotoFile(photo=photo, name=name, fields=fields.get(name.rpartition(".")[0])) for photo, name in found]


def _refusal(member: tarfile.TarInfo) -> str | None:
    name = member.name.replace("\\", "/")
    if name.startswith("/") or ".." in name.split("/") or ":" in name or "\0" in name:
        return "unsafe_name"
    return None if member.isreg() and not member.issparse() else "not_a_file"


def plain(name: str) -> str:
    r"""A name that a table can hold: bytes that are no UTF-8 are written as escapes.

    Example:
        >>> plain("B\udcff.jpg")
        'B\\udcff.jpg'
    """
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def photo_stem(name: str) -> str | None:
    """The file name without its suffix if it is that of a photo, else None."""
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a member's name is not a path of this machine
    return stem if stem and not stem.startswith(".") and suffix.lower() in SUFFIXES else None
