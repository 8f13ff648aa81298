"""Decides which items a photo belongs to, from its name and what stands beside it.

Reads photo files and item keys. Returns the photos by canonical name: `<item key>` for an item's first photo, then
`<item key>.1` and so on. The first rule that names an item holds, in this order: the table `photo_keys`; the JSON
beside the photo; the folder that it lies in; its file name, in any case where that is unique; the file name of the
item's photo address.
"""

import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import unquote

from features.vision.photo_files import Photo, PhotoFile, plain

KEY_FIELDS = ("asin", "parent_asin", "item_key", "item_id", "product_id", "movieId", "id")
_NUMBERED = re.compile(r"(.+)\.([1-9][0-9]*)")
_SIZE = re.compile(r"\._.*_$")  # the size and crop in an address: 71abcXYZ._SL500_.jpg
_DIGITS = re.compile(r"([0-9]+)")


def image_name(address: str) -> str:
    """The name of an image without its folder, size and suffix.

    Example:
        >>> image_name("https://m.media-amazon.com/images/I/71abc%2BXYZ._SL1500_.jpg")
        '71abc+XYZ'
    """
    last = unquote(address.partition("?")[0].rpartition("/")[2])
    return _SIZE.sub("", last.rpartition(".")[0] or last)


@dataclass(frozen=True)
class PhotoNames:
    """What is known about the names of photos.

    Args:
        keys: Item keys sought.
        listed: Photo name to item keys, the table `photo_keys`; a name may be that in the folder or archive, the bare
            file name, or either without suffix.
        addresses: `image_name` of an item's photo address to the items that have it.
    """

    keys: Collection[str]
    listed: Mapping[str, Sequence[str]] = field(default_factory=dict)
    addresses: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class Named:
    """Photos by canonical name, and the rest with the names that could be item keys outside those sought."""

    photos: dict[str, Photo]
    others: list[tuple[Photo, tuple[str, ...]]]


def name_photos(files: Iterable[PhotoFile], names: PhotoNames) -> Named:
    """Assigns photos to items.

    Of several photos with one file name, readable ones take precedence, then the first. An item's photos that are found
    by another rule follow in natural order of their names, those called main before the others.
    """
    found = list(files)
    rules = _Rules(names, found)
    index: dict[str, Photo] = {}
    more: dict[str, list[PhotoFile]] = {}
    others: list[tuple[Photo, tuple[str, ...]]] = []
    for file in found:
        stem, keys, candidates = rules.of(file)
        for key in keys:
            more.setdefault(key, []).append(file)
        if stem is not None:
            put(index, stem, file.photo)
        elif not keys:
            others.append((file.photo, candidates))
    for key, files_of_key in more.items():
        place = 0
        for file in sorted(files_of_key, key=_order):
            while (name := f"{key}.{place}" if place else key) in index:
                place += 1
            index[name] = replace(file.photo, item_key=name)
    return Named(index, others)


def put(index: dict[str, Photo], name: str, photo: Photo) -> None:
    """Adds a photo under `name` unless a readable one stands there."""
    known = index.get(name)
    if known is None or (known.refusal and not photo.refusal):
        index[name] = photo if photo.item_key == name else replace(photo, item_key=name)


class _Rules:
    """The rules for one set of files."""

    def __init__(self, names: PhotoNames, files: Sequence[PhotoFile]) -> None:
        self.names = names
        self.keys = frozenset(names.keys)
        folded = Counter(key.casefold() for key in self.keys)
        self.by_folded = {key.casefold(): key for key in self.keys if folded[key.casefold()] == 1}
        self.spellings: dict[str, set[str]] = {}
        for file in files:
            base = self._split(file.photo.item_key)[0]
            self.spellings.setdefault(base.casefold(), set()).add(base)
        inside = Counter(file.photo.item_key for file in files if self._folder(file) is not None)
        self.folders_are_items = any(number > 1 for number in inside.values())

    def of(self, file: PhotoFile) -> tuple[str | None, Sequence[str], tuple[str, ...]]:
        """The canonical name of the photo if its file name gives it; else its items; else the names that it bears."""
        stem = file.photo.item_key
        if keys := self._listed(file):
            return None, keys, ()
        fields = file.read_fields()
        if keys := self._described(fields):
            return None, keys, ()
        base, suffix = self._split(stem)
        by_name, folder = self._key(base), self._folder(file)
        if folder is not None and (self.folders_are_items or by_name is None):
            return None, (folder,), ()
        if by_name is not None:
            return f"{by_name}{suffix}", (), ()
        if keys := self.names.addresses.get(image_name(file.name), ()):
            return None, keys, ()
        bearing = [base, _parent(file.name), *(plain(str(fields[name])) for name in KEY_FIELDS if name in fields)]
        return None, (), tuple(name for name in bearing if name)

    def _split(self, stem: str) -> tuple[str, str]:
        """The stem without, and its `.1` for a further photo of an item."""
        numbered = None if stem in self.keys else _NUMBERED.fullmatch(stem)
        return (numbered[1], f".{numbered[2]}") if numbered else (stem, "")

    def _key(self, name: str) -> str | None:
        """The item key that `name` is, or is in another case if no other key and no other file is that."""
        if name in self.keys:
            return name
        folded = name.casefold()
        return self.by_folded.get(folded) if len(self.spellings.get(folded, ())) < 2 else None

    def _folder(self, file: PhotoFile) -> str | None:
        name = _parent(file.name)
        return name if name in self.keys else self.by_folded.get(name.casefold())

    def _listed(self, file: PhotoFile) -> Sequence[str]:
        listed = self.names.listed
        if not listed:
            return ()
        last = file.name.rpartition("/")[2]
        for name in (file.photo.source, file.name, last, file.name.rpartition(".")[0], file.photo.item_key):
            if keys := listed.get(name):
                return [key for key in keys if key in self.keys]
        return ()

    def _described(self, fields: Mapping[str, Any]) -> Sequence[str]:
        named = [str(fields[name]) for name in KEY_FIELDS if name in fields]
        texts = [value for value in fields.values() if isinstance(value, str)]
        for value in (*named, *texts):
            if value in self.keys:
                return (value,)
        url = fields.get("url")
        return self.names.addresses.get(image_name(url), ()) if isinstance(url, str) else ()


def _parent(name: str) -> str:
    return name.rpartition("/")[0].rpartition("/")[2]


def _order(file: PhotoFile) -> tuple[bool, bool, list[tuple[int, str]], str]:
    parts = [(int(part), "") if part.isdecimal() else (-1, part) for part in _DIGITS.split(file.name)]
    main = file.photo.item_key.casefold() == "main"
    return file.photo.refusal is not None, not main, parts, file.photo.source
