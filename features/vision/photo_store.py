"""Finds the photos of items in a folder of files, of tar archives, or both.

Reads the dump's photo folder. Returns the bytes of an item's photo, or the reason for refusing its file.
Trade-off: names and byte ranges are indexed in memory (about 200 bytes per photo), so a photo in an archive costs one
seek. Archives are never unpacked, and member names are looked up but never used as paths.
"""

from collections.abc import Iterable
from pathlib import Path

from features.errors import InputError
from features.vision.photo_files import SUFFIXES, Photo, photo_files
from features.vision.photo_names import PhotoNames, name_photos, put

__all__ = ["SUFFIXES", "Photo", "PhotoStore", "read_photo"]


class PhotoStore:
    """The photos of one dump by item key, indexed on construction.

    If a key has several photos, readable files take precedence over refused ones, then loose files over archives, then
    the first by name. Files with other suffixes and hidden files are ignored.

    Args:
        folder: Photo folder, such as `data/raw/sample/photos`, or one tar archive; if it does not exist, `folder.tar`.
        names: Item keys sought and what is known about the names of photos; None takes file names as item keys.

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

    def __init__(self, folder: Path, names: PhotoNames | None = None) -> None:
        beside = folder.with_name(f"{folder.name}.tar")
        place = beside if not folder.exists() and beside.is_file() else folder
        if not place.is_dir() and not (place.is_file() and place.suffix.lower() == ".tar"):
            raise InputError(
                f"no photo folder {folder}",
                "a folder of <item key>.jpg files or of .tar archives of them",
                "copy the photos there, or set `photos: null` for the dataset in params.yaml",
            )
        self.folder = folder
        self._index: dict[str, Photo] = {}
        self._others: list[tuple[Photo, tuple[str, ...]]] = []
        if names is None:
            for file in photo_files(place):
                put(self._index, file.photo.item_key, file.photo)
        else:
            named = name_photos(photo_files(place), names)
            self._index, self._others = named.photos, named.others

    def __len__(self) -> int:
        return len(self._index) + len(self._others)

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

    def unmatched(self, keys: Iterable[str]) -> list[tuple[Photo, tuple[str, ...]]]:
        """The photos that belong to none of the items, each with the names that it bears."""
        reached = {photo.item_key for key in keys for photo in self.photos_of(key, len(self._index))}
        left = [(photo, (name.partition(".")[0],)) for name, photo in self._index.items() if name not in reached]
        return [*left, *self._others]

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
