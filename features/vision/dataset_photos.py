"""Opens the photos of a dataset as `datasets.NAME` describes them, and counts how many belong to its items.

Reads the photo folder, the table `photo_keys` and, if given, `records/items` for the items' photo addresses.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from features.errors import InputError
from features.runtime.datasets import Dataset
from features.runtime.matching import Matching
from features.schema import ITEMS
from features.store.manifests import MANIFEST
from features.vision.key_lists import read_photo_keys
from features.vision.photo_names import PhotoNames, image_name
from features.vision.photo_store import PhotoStore

if TYPE_CHECKING:
    import pyarrow as pa

NAMES_ACTION = (
    "name the photos by item key (B0001.jpg), or list photo name and item key in a CSV in data/raw/NAME "
    "and set datasets.NAME.photo_keys to it"
)


def open_photos(raw: Path, dataset: Dataset, keys: Sequence[str], known: "pa.Table | None" = None) -> PhotoStore | None:
    """The photos of a dataset, or None if it has none.

    Args:
        raw: The dump's folder.
        dataset: Its entry of `datasets`.
        keys: Item keys of the catalogue.
        known: `known_items`; without it photos are not found by address.

    Raises:
        InputError: The photo folder or `photo_keys` is missing or broken.
    """
    if dataset.photos is None:
        return None
    listed = {} if dataset.photo_keys is None else read_photo_keys(raw / dataset.photo_keys)
    addresses = {} if known is None else _addresses(known, keys)
    return PhotoStore(raw / dataset.photos, PhotoNames(frozenset(keys), listed, addresses))


def known_items(table: Path) -> "pa.Table | None":
    """`item_key` and `image_url` of `records/items`; None if the dump has no metadata."""
    from features.store.tables import read_table

    if not (table / MANIFEST).is_file():
        return None
    rows = read_table(table, ITEMS, columns=("item_key", "image_url"))
    return rows if rows.num_rows else None


def keys_of(known: "pa.Table | None", keys: Sequence[str], names: Sequence[str]) -> frozenset[str] | None:
    """Those of `names` that are keys of the catalogue or of `known`; None without `known`."""
    if known is None:
        return None
    import pyarrow as pa
    import pyarrow.compute as pc

    found = pa.array(names, pa.string())
    there = pc.is_in(found, value_set=known["item_key"].combine_chunks())
    return frozenset(found.filter(there).to_pylist()) | frozenset(keys)


def photo_matching(store: PhotoStore, keys: Sequence[str], used: int, known: "pa.Table | None") -> Matching:
    """How the photos fit the catalogue; `used` counts those taken for its items."""
    others = store.unmatched(keys)
    bearing = [name for _, names in others for name in names]
    items = keys_of(known, keys, bearing)
    unknown = others if items is None else [other for other in others if items.isdisjoint(other[1])]
    strange = next((photo.source for photo, _ in unknown or others), None)
    without = [key for key in keys if store.find(key) is None]
    return Matching(
        kind="photos", total=len(store), used=used, unmatched=len(others),
        unmatched_name=strange, unknown=None if items is None else len(unknown),
        items=len(keys), without=len(without), without_key=next(iter(without), None),
    )  # fmt: skip


def check_photos(found: Matching, folder: Path, min_share: float) -> None:
    """Logs how the photos in `folder` fit the catalogue.

    Raises:
        InputError: There are no photos, or hardly any is of the catalogue; `min_share` 0 allows both.
    """
    if found.total == 0 and min_share > 0:
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:5]) if folder.is_dir() else ""
        raise InputError(
            f"no photo in {folder} (it holds {there or 'nothing'})", "image files or uncompressed tar archives",
            "put them there, download them (.venv/bin/python -m flows.ingest NAME --photos), or set photos: null for "
            "the dataset in params.yaml",
        )  # fmt: skip
    found.check(min_share, parameter="images.min_match_share", action=NAMES_ACTION)


def _addresses(known: "pa.Table", keys: Sequence[str]) -> dict[str, list[str]]:
    import pyarrow as pa
    import pyarrow.compute as pc

    ours = known.filter(pc.is_in(known["item_key"], value_set=pa.array(keys, pa.string())))
    addresses: dict[str, list[str]] = {}
    for key, url in zip(ours["item_key"].to_pylist(), ours["image_url"].to_pylist(), strict=True):
        if url and (name := image_name(url)):
            addresses.setdefault(name, []).append(key)
    return addresses
