import gzip
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from features.errors import InputError
from flows.download import dump_files, sources
from flows.download.download_state import is_whole_gzip
from flows.download.file_download import Remote, download
from flows.download.http_client import IngestParams
from flows.download.response_headers import retry_after
from tests.flows.web import Page, Site, serving

BODY = bytes(range(256)) * 8192  # 2 MiB
QUICK = IngestParams(
    attempts=3, initial_backoff_seconds=0.01, max_backoff_seconds=2, read_timeout_seconds=20, min_free_disk_bytes=0,
    private_hosts=("127.0.0.1",),
)  # fmt: skip


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as found:
        yield found


def fetch(site: Site, folder: Path, config: IngestParams = QUICK, **more: Any) -> str:
    return download([Remote(name="f.bin", url=site.address("f.bin"), **more)], folder, config)["f.bin"]


def left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_second_download_sends_a_conditional_request(site: Site, tmp_path: Path) -> None:
    site.pages["f.bin"] = Page(BODY, etag='"1"')
    assert fetch(site, tmp_path) == "fetched"
    assert (tmp_path / "f.bin").read_bytes() == BODY
    assert left(tmp_path) == [".f.bin.note.json", "f.bin"]
    assert fetch(site, tmp_path) == "unchanged"
    assert site.asked("f.bin")[-1]["If-None-Match"] == '"1"'
    site.pages["f.bin"] = Page(BODY + b"more", etag='"2"')
    assert fetch(site, tmp_path) == "fetched"
    assert (tmp_path / "f.bin").read_bytes() == BODY + b"more"


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_what_is_broken_off_is_resumed_where_it_stopped(site: Site, tmp_path: Path, fault: str) -> None:
    site.pages["f.bin"] = Page(BODY, etag='"1"', fault=fault, faults=2)
    config = QUICK if fault == "cut" else replace(QUICK, read_timeout_seconds=1, attempts=9)
    assert fetch(site, tmp_path, config) == "fetched"
    assert (tmp_path / "f.bin").read_bytes() == BODY
    first, second, third = site.asked("f.bin")[:3]
    assert "Range" not in first
    starts = [int(asked["Range"].removeprefix("bytes=").rstrip("-")) for asked in (second, third)]
    assert 0 < starts[0] < starts[1] < len(BODY)
    assert second["If-Range"] == third["If-Range"] == '"1"'


def test_a_later_run_resumes_what_an_earlier_one_gave_up(site: Site, tmp_path: Path) -> None:
    site.pages["f.bin"] = Page(BODY, etag='"1"', fault="cut", faults=1, after=Page(BODY, etag='"1"', fault="500"))
    with pytest.raises(InputError, match=r"status 500 .* run again later; the download resumes"):
        fetch(site, tmp_path)
    assert not (tmp_path / "f.bin").exists()
    assert (tmp_path / ".f.bin.part").stat().st_size == len(BODY) // 2
    site.pages["f.bin"].fault = None
    assert fetch(site, tmp_path) == "fetched"
    assert site.asked("f.bin")[-1]["Range"] == f"bytes={len(BODY) // 2}-"
    assert (tmp_path / "f.bin").read_bytes() == BODY


@pytest.mark.parametrize("ranges", [True, False])
def test_a_file_that_changes_midway_is_downloaded_again(site: Site, tmp_path: Path, ranges: bool) -> None:
    new = Page(BODY[::-1], etag='"2"', ranges=ranges)
    site.pages["f.bin"] = Page(BODY, etag='"1"', fault="cut", faults=1, after=new)
    assert fetch(site, tmp_path) == "fetched"
    assert (tmp_path / "f.bin").read_bytes() == BODY[::-1]


def test_a_server_that_ignores_if_range_is_not_believed(site: Site, tmp_path: Path) -> None:
    site.pages["f.bin"] = Page(BODY, etag='"1"', fault="500")
    (tmp_path / ".f.bin.part").write_bytes(b"old" * 100)
    note = {"url": site.address("f.bin"), "etag": None, "last_modified": "yesterday", "bytes": 10_000}
    (tmp_path / ".f.bin.part.note.json").write_text(json.dumps(note))
    site.pages["f.bin"] = Page(BODY, headers={"Last-Modified": "today"}, fault=None)
    site.pages["f.bin"].etag = None
    assert fetch(site, tmp_path) == "fetched"
    assert (tmp_path / "f.bin").read_bytes() == BODY


def test_without_a_validator_a_broken_file_starts_again(site: Site, tmp_path: Path) -> None:
    site.pages["f.bin"] = Page(BODY, fault="cut", faults=1)
    assert fetch(site, tmp_path) == "fetched"
    assert all("Range" not in asked for asked in site.asked("f.bin"))
    assert (tmp_path / "f.bin").read_bytes() == BODY


def test_a_kill_between_the_last_byte_and_the_name_costs_no_byte(site: Site, tmp_path: Path) -> None:
    (tmp_path / ".f.bin.part").write_bytes(BODY)
    note = {"url": site.address("f.bin"), "etag": '"1"', "last_modified": None, "bytes": len(BODY)}
    (tmp_path / ".f.bin.part.note.json").write_text(json.dumps(note))
    site.pages["f.bin"] = Page(BODY, etag='"1"')
    assert fetch(site, tmp_path) == "fetched"
    assert site.asked("f.bin") == []


@pytest.mark.parametrize(
    ("page", "message", "requests"),
    [
        (None, "status 404", 1),
        (Page(fault="403"), "status 403", 1),
        (Page(fault="500"), "status 500", 3),
        (Page(BODY, etag='"1"', fault="long"), "run again later", 3),
        (Page(fault="redirect", location="/f.bin"), "redirect_circle", 1),
        (Page(fault="redirect", location="http://localhost/f.bin"), "host_not_allowed", 1),
        (Page(fault="redirect", location="file:///etc/passwd"), "bad_address", 1),
        (Page(fault="429", headers={"Retry-After": "3600"}), "status 429 .* with Retry-After 3600 s", 1),
        (Page(BODY, fault="lengthless"), "a response without a length", 1),
    ],
)
def test_a_failed_download_is_one_line_and_leaves_no_file(
    site: Site, tmp_path: Path, page: Page | None, message: str, requests: int
) -> None:
    if page is not None:
        site.pages["f.bin"] = replace(page)
    with pytest.raises(InputError, match=message):
        fetch(site, tmp_path)
    assert not (tmp_path / "f.bin").exists()
    assert len(site.asked("f.bin")) == requests


def test_the_pause_is_as_long_as_retry_after(site: Site, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    site.pages["f.bin"] = Page(BODY, etag='"1"', fault="429", faults=1, headers={"Retry-After": "1"})
    started = time.monotonic()
    with caplog.at_level(logging.WARNING):
        assert fetch(site, tmp_path) == "fetched"
    assert time.monotonic() - started >= 1
    assert "f.bin: status 429 from 127.0.0.1; retrying in 1.0 s" in caplog.text


def test_a_500_is_tried_again(site: Site, tmp_path: Path) -> None:
    site.pages["f.bin"] = Page(BODY, fault="500", faults=2)
    assert fetch(site, tmp_path) == "fetched"


def test_tries_count_from_the_last_new_byte(site: Site, tmp_path: Path) -> None:
    site.pages["f.bin"] = Page(BODY, etag='"1"', fault="cut", faults=8)
    assert fetch(site, tmp_path) == "fetched"
    assert len(site.asked("f.bin")) == 9


def test_a_slow_response_is_aborted(site: Site, tmp_path: Path) -> None:
    site.pages["f.bin"] = Page(BODY[:40], etag='"1"', fault="trickle")
    config = replace(QUICK, read_timeout_seconds=0.3, min_bytes_per_second=1000, attempts=1)
    with pytest.raises(InputError, match="bytes per second, fewer than 1000"):
        fetch(site, tmp_path, config)
    assert not (tmp_path / "f.bin").exists()


def test_a_wrong_hash_is_refused_and_the_file_deleted(site: Site, tmp_path: Path) -> None:
    site.pages["f.bin"] = Page(BODY, etag='"1"')
    right = hashlib.sha256(BODY).hexdigest()
    with pytest.raises(InputError, match=rf"f.bin with sha256 {right}; expected {'0' * 64} \(params.yaml\)"):
        fetch(site, tmp_path, sha256="0" * 64)
    assert left(tmp_path) == []
    assert fetch(site, tmp_path, sha256=right) == "fetched"


def test_a_truncated_gzip_is_rejected(site: Site, tmp_path: Path) -> None:
    whole = gzip.compress(os.urandom(50_000))
    site.pages["f.gz"] = Page(whole[:30_000], etag='"1"')
    with pytest.raises(InputError, match="with a truncated gzip stream"):
        download([Remote(name="f.gz", url=site.address("f.gz"))], tmp_path, QUICK)
    assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("content", "whole"),
    [
        (gzip.compress(b"a") + gzip.compress(b"b" * 3_000_000), True),
        (gzip.compress(b"a") + gzip.compress(b"b")[:-1], False),
        (gzip.compress(b"a") + b"tail", False),
        (b"", False),
        (b"no gzip", False),
    ],
    ids=["two members", "cut off", "with a tail", "empty", "no gzip"],  # not the bytes: they hold the time
)
def test_whole_gzip(tmp_path: Path, content: bytes, whole: bool) -> None:
    (tmp_path / "f").write_bytes(content)
    assert is_whole_gzip(tmp_path / "f") is whole


def test_a_full_disk_is_reported_before_the_first_byte(site: Site, tmp_path: Path) -> None:
    site.pages["f.bin"] = Page(BODY)
    with pytest.raises(InputError, match=r"must stay free; expected 2,097,152 bytes; do: free disk space"):
        fetch(site, tmp_path, replace(QUICK, min_free_disk_bytes=1 << 60))
    assert site.asked("f.bin") == []


def test_one_bad_file_does_not_stop_the_others(site: Site, tmp_path: Path) -> None:
    site.pages["b.bin"] = Page(BODY)
    remotes = [Remote(name=name, url=site.address(name)) for name in ("a.bin", "b.bin")]
    with pytest.raises(InputError, match=r"status 404 .* for a\.bin"):
        download(remotes, tmp_path, QUICK)
    assert (tmp_path / "b.bin").read_bytes() == BODY


@pytest.mark.parametrize("header", ["Wed, 21 Oct 2015 07:28:00 GMT", "0"])
def test_retry_after_in_the_past_asks_for_nothing(header: str) -> None:
    assert retry_after(header) == 0


def test_downloads_are_linked_and_a_second_run_changes_nothing(site: Site, workspace: Path) -> None:
    lines = gzip.compress(b'{"asin": "B1"}\n')
    site.pages["r.json.gz"] = Page(lines, etag='"1"')
    entry = {"format": "amazon2014", "reviews": ["r.json.gz"], "metadata": [],
             "urls": {"r.json.gz": site.address("r.json.gz")}}  # fmt: skip
    params = {"datasets": {"shirts": entry}, "tokenizers": {},
              "ingest": {"min_free_disk_bytes": 0, "private_hosts": ["127.0.0.1"]}}  # fmt: skip

    def bring() -> list[str]:
        sources.fetch_files("shirts", params)
        transfers = sources.plan_fetched("shirts", params)
        arrivals = [dump_files.fetch(transfer, "shirts") for transfer in transfers]
        for transfer, arrival in zip(transfers, arrivals, strict=True):
            dump_files.verify(transfer, arrival)
        return dump_files.publish("shirts", arrivals)

    assert bring() == ["r.json.gz"]
    assert bring() == []
    assert (workspace / "data/raw/shirts/r.json.gz").stat().st_nlink == 2
    assert json.loads((workspace / "data/raw/shirts/manifest.json").read_text())[0]["bytes"] == len(lines)
