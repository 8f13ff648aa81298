"""Two photo ingests of one data set at once store every photo under its own key; a later mismatch is a reject."""

import hashlib
import io
import json
import multiprocessing
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from features import schema
from features.errors import BusyError, InputError
from features.store import tables
from features.vision.photo_index import PhotoIndex
from features.vision.photo_record import RECORD, read_record
from features.vision.photo_store import PhotoStore
from flows.download import ingest_steps, sources, tar_shards
from flows.execution.workspace_lock import dump_lock
from tests.flows.download.test_tar_shards import members
from tests.flows.web import Page, Site, serving

SHARD = Path("data/raw/shirts/photos/photos-00000.tar")
KEYS = [f"B{number:02d}" for number in range(30)]


def photo(number: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8 + number, 8), (number, number, number)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as found:
        for number, key in enumerate(KEYS):
            found.pages[f"{key}.jpg"] = Page(photo(number), kind="image/jpeg", etag=f'"{number}"')
        yield found


@pytest.fixture
def shirts(site: Site, workspace: Path) -> dict[str, Any]:
    """Parameters of a dataset without files, whose items have their photos on the site."""
    rows = [
        {"item_key": key, "categories": [], "image_url": site.address(f"{key}.jpg"), "source": "m", "line": line}
        for line, key in enumerate(KEYS, start=1)
    ]
    made = tables.Provenance(stage="records", params={})
    tables.write_table(
        Path("data/shirts") / schema.ITEMS.name, schema.ITEMS, tables.from_rows(schema.ITEMS, rows), made
    )
    Path("data/raw/shirts").mkdir(parents=True)
    Path("data/raw/shirts/r.json.gz").write_bytes(b"reviews")
    entry = {"format": "amazon2014", "reviews": ["r.json.gz"], "metadata": [], "photos": "photos"}
    ingest = {
        "attempts": 1, "min_free_disk_bytes": 0, "private_hosts": ["127.0.0.1"], "photos": {"rate": 0, "per_host": 4}
    }  # fmt: skip
    return {"datasets": {"shirts": entry}, "tokenizers": {}, "ingest": ingest}


def ingest(params: dict[str, Any], pause: float) -> None:
    """In a child: one ingest; exits with the code of the command."""
    multiprocessing.Event().wait(pause)
    try:
        ingest_steps.ingest("shirts", None, params, photos=True)
    except BusyError as error:
        raise SystemExit(error.exit_code) from None


@pytest.mark.slow
def test_two_ingests_at_once_mix_up_no_photo(site: Site, shirts: dict[str, Any]) -> None:
    expected = {f"{key}.jpg": photo(number) for number, key in enumerate(KEYS)}
    pauses = random.Random(5)
    context = multiprocessing.get_context("fork")
    for _ in range(20):
        for folder in (sources.downloads_folder("shirts"), SHARD.parent):
            for path in sorted(folder.rglob("*"), reverse=True):
                path.unlink() if path.is_file() else path.rmdir()
        both = [context.Process(target=ingest, args=(shirts, pauses.uniform(0, 0.1))) for _ in range(2)]
        for one in both:
            one.start()
        for one in both:
            one.join(60)
        codes = sorted(one.exitcode or 0 for one in both)
        assert codes in ([0, 0], [0, BusyError.exit_code])
        assert members(SHARD) == expected
        assert read_record(SHARD.parent) == {
            f"{SHARD.name}:{name}": hashlib.sha256(data).hexdigest() for name, data in expected.items()
        }


def test_a_second_writer_is_told_who_holds_the_dump(shirts: dict[str, Any]) -> None:
    with dump_lock("shirts"), pytest.raises(BusyError, match=r"another ingest of shirts in progress \(process \d+"):
        ingest_steps.ingest("shirts", None, shirts, photos=True)
    ingest_steps.ingest("shirts", None, shirts, photos=True)


def test_a_photo_under_another_key_is_a_reject_then_fetched(site: Site, shirts: dict[str, Any]) -> None:
    ingest_steps.ingest("shirts", None, shirts, photos=True)
    mixed = members(SHARD) | {"B01.jpg": photo(2)}
    with SHARD.open("r+b") as stream:  # the downloads are the same file
        tar_shards.write_members(sorted(mixed.items()), stream)
    store = PhotoStore(SHARD.parent)
    index = PhotoIndex(KEYS, store, most=1, max_bytes=1e6, placeholders=(), workers=1)
    assert len(list(index.wanted())) == len(KEYS) - 1
    refused = {
        one.photo.item_key: one.refused.reason for (one,) in index.photos_by_item if one.refused is not None
    }  # fmt: skip
    assert refused == {"B01": "digest_mismatch"}
    assert set(refused.values()) <= set(schema.PHOTO_REJECT_REASONS)
    ingest_steps.ingest("shirts", None, shirts, photos=True)
    assert "B01.jpg" not in members(SHARD)
    ingest_steps.ingest("shirts", None, shirts, photos=True)
    assert members(SHARD)["B01.jpg"] == photo(1)


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', "\x00"])
def test_a_damaged_record_is_one_line(tmp_path: Path, content: str) -> None:
    assert read_record(tmp_path) == {}
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(InputError, match=r"digests\.json that cannot be read"):
        read_record(tmp_path)


def test_stray_temporary_files_are_removed_by_the_next_run(shirts: dict[str, Any]) -> None:
    ingest_steps.ingest("shirts", None, shirts, photos=True)
    folders = [SHARD.parent.parent, sources.photo_state("shirts"), sources.downloads_folder("shirts") / "photos"]
    for folder in folders:
        (folder / ".manifest.json.0a1b2c3d.tmp").write_text(json.dumps({}))
    ingest_steps.ingest("shirts", None, shirts, photos=True)
    assert [stray for folder in folders for stray in folder.glob(".*.tmp")] == []
