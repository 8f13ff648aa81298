"""Finds photos in a folder of `<item key>.jpg` files, of tar archives with such members, or both.

Reads the dump's photo folder. Returns the bytes of an item's photo, or the reason for refusing its file.
Trade-off: names and byte ranges are indexed in memory (about 200 bytes per photo), so a photo in an archive costs one
seek. Archives are never unpacked, and member names are looked up but never used as paths.
"""

import os
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from features.errors import InputError

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, kw_only=True)
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


class PhotoStore:
    """The photos of one dump by item key, indexed on construction.

    If a key has several photos, readable files take precedence over refused ones, then loose files over archives, then
    the first by name. Files with other suffixes and hidden files are ignored.

    Args:
        folder: Photo folder, such as `data/raw/sample/photos`.

    Raises:
        InputError: The folder does not exist, or an archive in it is broken.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as name:
        ...     _ = (Path(name) / "B1.jpg").write_bytes(b"photo")
        ...     (Path(name) / "B2.jpg").symlink_to("B1.jpg")
        ...     store = PhotoStore(Path(name))
        ...     print(sorted(store.keys()), store.bytes("B1"), store.bytes("B2"), store.find("B2").refusal)
        ['B1', 'B2'] b'photo' None not_a_file
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(
                f"no photo folder {folder}",
                "a folder of <item key>.jpg files or of .tar archives of them",
                "copy the photos there, or set `photos: null` for the dataset in params.yaml",
            )
        self.folder = folder
        self._index: dict[str, Photo] = {}
        entries = sorted(folder.iterdir(), key=lambda path: path.name)
        archives = [path for path in entries if path.suffix.lower() == ".tar"]
        for photo in (*_loose(entries), *(member for path in archives for member in _members(path))):
            known = self._index.get(photo.item_key)
            if known is None or (known.refusal and not photo.refusal):
                self._index[photo.item_key] = photo

    def __len__(self) -> int:
        return len(self._index)

    def keys(self) -> list[str]:
        """The item keys that have a photo, readable or refused, ascending."""
        return sorted(self._index)

    def find(self, item_key: str) -> Photo | None:
        """Location of the item's photo, or None if it has none."""
        return self._index.get(item_key)

    def photos_of(self, item_key: str, most: int = 1) -> list[Photo]:
        """Up to `most` photos of the item: `B1.jpg`, then `B1.1.jpg`, `B1.2.jpg` and so on without a gap.

        Example:
            With B1.jpg, B1.1.jpg and B1.3.jpg: `photos_of("B1", 9)` are the first two.
        """
        photos: list[Photo] = []
        for number in range(most):
            photo = self._index.get(f"{item_key}.{number}" if number else item_key)
            if photo is None:
                break
            photos.append(photo)
        return photos

    def bytes(self, item_key: str) -> bytes | None:
        """The photo's undecoded bytes, or None if the item has no photo or its file is refused.

        Raises:
            InputError: The file was truncated after the store was built.
        """
        photo = self._index.get(item_key)
        return None if photo is None or photo.refusal else read_photo(photo)


def read_photo(photo: Photo) -> bytes:
    """Reads the bytes of a photo that is not refused; does not need the store, for use in worker processes.

    Raises:
        InputError: The file was removed or truncated after the store was built.
    """
    try:
        with photo.path.open("rb", buffering=0) as stream:
            stream.seek(photo.offset)
            data = stream.read(photo.num_bytes)
            while len(data) < photo.num_bytes and (more := stream.read(photo.num_bytes - len(data))):
                data += more  # some file systems return fewer bytes than requested
    except OSError as error:
        raise InputError(
            f"{photo.source}, which cannot be read ({error.strerror})", f"{photo.num_bytes} bytes, as indexed",
            "do not modify the photo folder while a stage reads it, and check its permissions",
        ) from error  # fmt: skip
    if len(data) != photo.num_bytes:
        raise InputError(
            f"{photo.source} with {len(data)} bytes", f"{photo.num_bytes} bytes, as indexed",
            "do not modify the photo folder while a stage reads it",
        )  # fmt: skip
    return data


def _loose(entries: list[Path]) -> Iterator[Photo]:
    for path in entries:
        key = _item_key(path.name)
        if key is None:
            continue
        is_file = path.is_file() and not path.is_symlink()
        yield Photo(
            item_key=key, source=path.name, path=path, offset=0,
            num_bytes=path.stat().st_size if is_file else 0,
            refusal=None if is_file else "not_a_file",
        )  # fmt: skip


def _members(archive: Path) -> Iterator[Photo]:
    """The photos of an uncompressed tar, read from its headers."""
    size = archive.stat().st_size
    try:
        with tarfile.open(archive, "r:") as tar:
            for member in tar:
                key = _item_key(PurePosixPath(member.name.replace("\\", "/")).name)
                if key is None:
                    continue
                if member.offset_data + member.size > size and member.isreg():
                    raise tarfile.ReadError(f"{member.name} reaches beyond the end")
                yield Photo(
                    item_key=key, source=f"{archive.name}:{member.name}"[:300], path=archive,
                    offset=member.offset_data, num_bytes=member.size, refusal=_refusal(member),
                )  # fmt: skip
    except (tarfile.TarError, EOFError, OSError) as error:
        raise InputError(
            f"archive {archive} that cannot be read ({error})", "an uncompressed, complete .tar",
            "download it again, or repack it without compression",
        ) from error  # fmt: skip


def _refusal(member: tarfile.TarInfo) -> str | None:
    name = member.name.replace("\\", "/")
    if name.startswith("/") or ".." in name.split("/") or ":" in name or "\0" in name:
        return "unsafe_name"
    return None if member.isreg() and not member.issparse() else "not_a_file"


def _item_key(name: str) -> str | None:
    stem, suffix = os.path.splitext(name)  # noqa: PTH122 - a member's name is not a path of this machine
    return stem if stem and not stem.startswith(".") and suffix.lower() in SUFFIXES else None
