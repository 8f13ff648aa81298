import io
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from features import schema
from features.errors import InputError
from features.store import tables
from flows.download import dump_files, sources, tar_shards
from flows.download.http_client import IngestParams, PhotoLimits
from flows.download.photo_download import INCOMING, PhotoRequest, fetch_photos
from flows.download.photo_log import FILE, Outcome, append, appending, read_outcomes
from tests.flows.download.test_tar_shards import members
from tests.flows.web import Page, Site, serving

LIMITS = PhotoLimits(per_host=4, rate=0, max_bytes=100_000, max_pixels=10_000, hosts=("localhost",))
QUICK = IngestParams(
    attempts=2, initial_backoff_seconds=0.01, max_backoff_seconds=1, read_timeout_seconds=20, min_free_disk_bytes=0,
    private_hosts=("127.0.0.1",), photos=LIMITS,
)  # fmt: skip


def photo(shade: int = 0, size: tuple[int, int] = (8, 8), kind: str = "JPEG") -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, (shade, shade, shade)).save(stream, kind)
    return stream.getvalue()


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as found:
        yield found


def show(site: Site, path: str, body: bytes, **more: Any) -> None:
    site.pages[path] = Page(body, **({"kind": "image/jpeg", "etag": f'"{path}"'} | more))


def wanted(site: Site, *keys: str) -> list[PhotoRequest]:
    return [PhotoRequest(item_key=key, url=site.address(f"{key}.jpg")) for key in keys]


def results(folder: Path) -> dict[str, str]:
    return {key: outcome.result for key, outcome in read_outcomes(folder / FILE).items()}


def test_every_photo_has_one_outcome_and_only_good_ones_are_kept(site: Site, tmp_path: Path) -> None:
    show(site, "B1.jpg", photo(1))
    show(site, "B2.jpg", photo(2, kind="PNG"))
    show(site, "B4.jpg", b"<html>", kind="text/html")
    show(site, "B5.jpg", b"no photo at all")
    show(site, "B6.jpg", photo(6, size=(101, 100)))
    show(site, "B7.jpg", bytes(200_000))
    show(site, "B8.jpg", photo(8), fault="cut")
    show(site, "B10.jpg", b"", etag=None)
    show(site, "B11.jpg", photo(11), fault="redirect", location="/B1.jpg")
    show(site, "B12.jpg", photo(12), fault="redirect", location="/B12.jpg")
    show(site, "B13.jpg", photo(13), fault="redirect", location="http://127.0.0.2/B1.jpg")
    show(site, "B14.jpg", photo(14), fault="500", faults=1)
    show(site, "B15.jpg", photo(15), fault="403")
    keys = [f"B{number}" for number in range(1, 16) if number != 9]
    counts = fetch_photos(wanted(site, *keys), tmp_path, QUICK)
    outcomes = read_outcomes(tmp_path / FILE)
    assert {key: one.result for key, one in outcomes.items()} == {
        "B1": "fetched", "B2": "fetched", "B3": "missing", "B4": "refused", "B5": "refused", "B6": "refused",
        "B7": "refused", "B8": "failed", "B10": "refused", "B11": "fetched", "B12": "refused",
        "B13": "refused", "B14": "fetched", "B15": "refused",
    }  # fmt: skip
    reasons = {key: (outcomes[key].detail or "").split(" ")[0] for key in ("B4", "B5", "B6", "B7", "B10", "B12", "B13")}
    assert reasons == {
        "B4": "not_an_image", "B5": "not_an_image", "B6": "too_large", "B7": "too_large", "B10": "empty",
        "B12": "redirect_circle", "B13": "host_not_allowed",
    }  # fmt: skip
    assert counts == {"fetched": 4, "missing": 1, "refused": 8, "failed": 1}
    kept = members(tmp_path / "incoming.tar")
    assert sorted(kept) == ["B1.jpg", "B11.jpg", "B14.jpg", "B2.png"]
    assert kept["B2.png"] == photo(2, kind="PNG")


def test_a_stalled_or_slow_photo_fails_and_is_retried(site: Site, tmp_path: Path) -> None:
    show(site, "B1.jpg", photo(1), fault="stall")
    show(site, "B2.jpg", photo(2), fault="trickle")
    short = replace(QUICK, attempts=1, read_timeout_seconds=0.5, photos=replace(LIMITS, seconds=0.5))
    assert fetch_photos(wanted(site, "B1", "B2"), tmp_path, short) == {"failed": 2}
    show(site, "B1.jpg", photo(1))
    show(site, "B2.jpg", photo(2))
    assert fetch_photos(wanted(site, "B1", "B2"), tmp_path, QUICK) == {"fetched": 2}


@pytest.mark.parametrize(
    "key", ["../B1", "a/b", "..", ".hidden", "", "B\0", "B\n1", "x" * 101, "C:\\B1", "B1/../../B2", "B1 "]
)
def test_a_key_that_could_leave_the_folder_is_refused_unasked(site: Site, tmp_path: Path, key: str) -> None:
    show(site, "B1.jpg", photo())
    fetch_photos([PhotoRequest(item_key=key, url=site.address("B1.jpg"))], tmp_path / "in", QUICK)
    assert read_outcomes(tmp_path / "in" / FILE)[key].detail == "unsafe_item_key"
    assert site.log == []
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["incoming.tar", FILE]
    assert (tmp_path / "in/incoming.tar").stat().st_size == 0


def test_a_private_host_that_is_not_named_is_never_asked(site: Site, tmp_path: Path) -> None:
    show(site, "B1.jpg", photo())
    port = site.url.rpartition(":")[2]
    ports = replace(QUICK, private_hosts=())
    fetch_photos([PhotoRequest(item_key="B1", url=f"http://localhost:{port}/B1.jpg")], tmp_path, ports)
    assert read_outcomes(tmp_path / FILE)["B1"].detail == f"port_not_allowed (localhost:{port})"
    fetch_photos([PhotoRequest(item_key="B2", url="http://localhost/B1.jpg")], tmp_path, ports)
    assert (read_outcomes(tmp_path / FILE)["B2"].detail or "").startswith("private_address (localhost is ")
    assert site.log == []


def test_a_second_run_asks_only_for_what_failed_or_moved(site: Site, tmp_path: Path) -> None:
    show(site, "B1.jpg", photo(1))
    show(site, "B2.jpg", photo(2), fault="500")
    fetch_photos(wanted(site, "B1", "B2", "B3"), tmp_path, QUICK)
    site.log.clear()
    show(site, "B2.jpg", photo(2))
    show(site, "new.jpg", photo(3))
    moved = [*wanted(site, "B1", "B2"), PhotoRequest(item_key="B3", url=site.address("new.jpg"))]
    assert fetch_photos(moved, tmp_path, QUICK) == {"held": 1, "fetched": 2}
    assert sorted(path for _, path, _ in site.log) == ["B2.jpg", "new.jpg"]


def test_a_recheck_uses_the_etag_and_keeps_missing_photos(site: Site, tmp_path: Path) -> None:
    for key in ("B1", "B2", "B3"):
        show(site, f"{key}.jpg", photo(int(key[1])))
    fetch_photos(wanted(site, "B1", "B2", "B3"), tmp_path, QUICK)
    before = read_outcomes(tmp_path / FILE)
    show(site, "B2.jpg", photo(22), etag='"new"')
    del site.pages["B3.jpg"]
    often = replace(QUICK, photos=replace(LIMITS, recheck_days=1))
    assert fetch_photos(wanted(site, "B1", "B2", "B3"), tmp_path, often) == {"held": 3}
    later = time.time() + 2 * 86_400
    counts = fetch_photos(wanted(site, "B1", "B2", "B3"), tmp_path, often, now=later)
    assert counts == {"unchanged": 1, "fetched": 1, "missing": 1}
    after = read_outcomes(tmp_path / FILE)
    assert site.asked("B1.jpg")[-1]["If-None-Match"] == '"B1.jpg"'
    assert (after["B1"].sha256, after["B3"].sha256) == (before["B1"].sha256, before["B3"].sha256)
    assert after["B2"].sha256 != before["B2"].sha256


def test_a_truncated_last_line_is_ignored_and_others_are_errors(tmp_path: Path) -> None:
    path = tmp_path / FILE
    with appending(path) as stream:
        append(stream, Outcome(item_key="B1", url="u", result="missing"))
    path.write_text(path.read_text() + '{"item_key": "B2", "ur')
    assert list(read_outcomes(path)) == ["B1"]
    with appending(path) as stream:
        append(stream, Outcome(item_key="B3", url="u", result="missing"))
    assert list(read_outcomes(path)) == ["B1", "B3"]
    path.write_text("{}\n" + path.read_text())
    with pytest.raises(InputError, match=r"line 1 of .* that is not an outcome"):
        read_outcomes(path)


def test_requests_at_one_host_keep_their_rate(site: Site, tmp_path: Path) -> None:
    keys = [f"B{number}" for number in range(9)]
    slow = replace(QUICK, photos=replace(LIMITS, rate=20))
    started = time.monotonic()
    fetch_photos(wanted(site, *keys), tmp_path, slow)
    assert time.monotonic() - started >= 8 / 20


@pytest.mark.parametrize(
    "more", [{}, {"progressive": True}, {"comment": b"x" * 500}, {"exif": b"Exif\0\0" + b"x" * 60}]
)
def test_a_jpeg_is_held_and_one_cut_in_its_header_refused(site: Site, tmp_path: Path, more: dict[str, Any]) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (37, 21)).save(stream, "JPEG", **more)
    show(site, "B1.jpg", stream.getvalue())
    show(site, "B2.jpg", stream.getvalue()[:30])
    assert fetch_photos(wanted(site, "B1", "B2"), tmp_path, QUICK) == {"fetched": 1, "refused": 1}
    assert members(tmp_path / INCOMING) == {"B1.jpg": stream.getvalue()}


@pytest.fixture
def shirts(site: Site, workspace: Path) -> dict[str, Any]:
    """Parameters of a dataset whose catalogue has B1, B2 and B3, with photos on the site."""
    for key in ("B1", "B2"):
        show(site, f"{key}.jpg", photo(int(key[1])))
    rows = [
        {"item_key": key, "categories": [], "image_url": site.address(f"{key}.jpg"), "source": "m", "line": line}
        for line, key in enumerate(("B1", "B2", "B3", "outside"), start=1)
    ]
    items = [
        {"item_id": number, "item_key": f"B{number}", "num_interactions": 5, "num_train": 3} for number in (1, 2, 3)
    ]
    made = tables.Provenance(stage="records", params={})
    for table, found in ((schema.ITEMS, rows), (schema.CATALOGUE, items)):
        tables.write_table(Path("data/shirts") / table.name, table, tables.from_rows(table, found), made)
    place = Path("data/raw/shirts")
    place.mkdir(parents=True)
    (place / "r.json.gz").write_bytes(b"reviews")
    (place / dump_files.MANIFEST).write_text(json.dumps([{"name": "r.json.gz", "bytes": 7, "sha256": "x"}]))
    entry = {"format": "amazon2014", "reviews": ["r.json.gz"], "metadata": [], "photos": "photos"}
    ingest = {"attempts": 1, "min_free_disk_bytes": 0, "private_hosts": ["127.0.0.1"], "photos": {"rate": 0}}
    return {"datasets": {"shirts": entry}, "tokenizers": {}, "ingest": ingest}


def bring(params: dict[str, Any]) -> list[str]:
    sources.fetch_photos("shirts", params)
    transfers = sources.plan_fetched("shirts", params)
    return dump_files.publish("shirts", [dump_files.fetch(transfer, "shirts") for transfer in transfers])


def test_photos_of_the_catalogue_reach_the_dump_as_shards(site: Site, shirts: dict[str, Any]) -> None:
    assert bring(shirts) == ["photos/digests.json", "photos/photos-00000.tar"]
    assert members(Path("data/raw/shirts/photos/photos-00000.tar")) == {"B1.jpg": photo(1), "B2.jpg": photo(2)}
    assert results(sources.photo_state("shirts")) == {"B1": "fetched", "B2": "fetched", "B3": "missing"}
    assert (Path("data/raw/shirts/r.json.gz")).read_bytes() == b"reviews"
    site.log.clear()
    assert bring(shirts) == []
    assert site.log == []


def outcome_digest(state: Path, key: str) -> str:
    return read_outcomes(state / FILE)[key].sha256 or ""


def test_a_photo_that_a_crash_spoilt_or_took_is_fetched_again(site: Site, shirts: dict[str, Any]) -> None:
    state = sources.photo_state("shirts")
    addresses = sources.photo_urls("shirts")
    assert list(addresses) == ["B1", "B2", "B3"]
    config = sources.ingest_params(shirts)
    fetch_photos([PhotoRequest(item_key=key, url=url) for key, url in addresses.items()], state, config)
    incoming = tar_shards.AppendTar(state / "incoming.tar")
    incoming.add("B1.jpg", b"spoilt")
    incoming.close()
    (state / FILE).write_text((state / FILE).read_text().replace(outcome_digest(state, "B2"), "0" * 64))
    sources.pack(state, Path("work/downloads/shirts/photos"))
    assert results(state) == {"B3": "missing"}
    assert bring(shirts) == ["photos/digests.json", "photos/photos-00000.tar"]
    assert results(state) == {"B1": "fetched", "B2": "fetched", "B3": "missing"}


def test_photos_need_the_tables_that_name_them(workspace: Path) -> None:
    entry = {"format": "amazon2014", "reviews": ["r"], "metadata": [], "photos": None}
    with pytest.raises(InputError, match=r"no photo folder for shirts; .* set datasets\.shirts\.photos: photos"):
        sources.fetch_photos("shirts", {"datasets": {"shirts": entry}})
    with pytest.raises(InputError, match="no table data/shirts/records/items"):
        sources.fetch_photos("shirts", {"datasets": {"shirts": entry | {"photos": "photos"}}})
