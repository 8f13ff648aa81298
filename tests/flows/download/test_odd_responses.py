"""No text of a server stops the other downloads, and none takes longer than its deadline."""

import io
import itertools
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from features.errors import InputError
from flows.download import download_state, response_headers
from flows.download.file_download import Remote, download
from flows.download.http_client import IngestParams, PhotoLimits
from flows.download.photo_download import PhotoRequest, fetch_photos
from flows.download.photo_log import FILE, Outcome, append, appending, read_outcomes
from tests.flows.raw_server import Answer, head, said, sending, whole

QUICK = IngestParams(
    attempts=1, initial_backoff_seconds=0.01, max_backoff_seconds=1, read_timeout_seconds=1,
    connect_timeout_seconds=0.5, min_free_disk_bytes=0, private_hosts=("127.0.0.1",),
    photos=PhotoLimits(rate=0, hosts=(), seconds=1.5),
)  # fmt: skip
JPEG = b"Content-Type: image/jpeg"


def photo() -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG")
    return stream.getvalue()


GOOD = whole("200 OK", photo(), JPEG)


def slowly(start: bytes, block: bytes, pause: float = 0.05) -> Answer:
    """An answer that never ends."""

    def blocks(_request: bytes) -> Iterator[bytes]:
        yield start
        while True:
            yield block
            time.sleep(pause)

    return blocks


def fetched(answers: dict[str, Answer], folder: Path, config: IngestParams = QUICK) -> dict[str, Outcome]:
    """The outcomes of the photos at `answers`; a photo `good` is added, and must be fetched whatever the others do."""
    with sending(answers | {"good": said(GOOD)}) as url:
        wanted = [PhotoRequest(item_key=name, url=f"{url}/{name}") for name in [*answers, "good"]]
        counts = fetch_photos(wanted, folder, config)
    found = read_outcomes(folder / FILE)
    assert counts == Counter(outcome.result for outcome in found.values())
    assert found["good"].result == "fetched"
    return found


@pytest.mark.parametrize(
    ("answer", "result", "detail"),
    [
        (head("302 Found", b"Location: http://[bad"), "refused", "bad_address (a redirect to 'http://[bad'"),
        (head("302 Found", b"Location: http://\xff\xfe/"), "refused", "host_not_allowed"),
        (head("302 Found", b"Location: http://a:b:c/"), "refused", "bad_address"),
        (head("302 Found"), "refused", "redirect_circle"),
        (head("300 Multiple Choices") + photo(), "refused", "denied (status 300"),
        (head("305 Use Proxy", b"Location: http://127.0.0.1/") + photo(), "refused", "denied (status 305"),
        (whole("306 Unused", photo(), JPEG), "refused", "denied (status 306"),
        (whole("206 Partial Content", photo(), JPEG, b"Content-Range: bytes 0-9/10"), "refused", "denied (status 206"),
        (head("304 Not Modified"), "refused", "denied (status 304"),
        (head("204 No Content", JPEG), "refused", "denied (status 204"),
        (head("429 Slow", "Retry-After: ²".encode()), "failed", "status 429"),
        (head("429 Slow", b"Retry-After: \xff"), "failed", "status 429"),
        (head("503 Later", b"Retry-After: " + b"9" * 4000), "failed", "status 503"),
        (head("503 Later", b"Retry-After: Mon, 99 Foo 99999 99:99:99 +9999"), "failed", "status 503"),
        (whole("200 OK", photo(), b"Content-Type: image/\xff\xff; charset=\xfe"), "fetched", ""),
        (whole("200 OK", photo(), b"Content-Type: \xff;;;=;\xff"), "fetched", ""),
        (head("200 OK", JPEG, b"Content-Length: " + "²".encode()), "failed", ""),
        (head("200 OK", JPEG, b"Content-Length: " + b"9" * 5000), "failed", ""),
        (head("200 OK", JPEG, b"Transfer-Encoding: chunked") + b"zz\r\n", "failed", ""),
        (b"no HTTP at all\r\n\r\n", "failed", ""),
        (b"", "failed", ""),
        (head("200 OK", b"X: " + b"x" * 20_000), "failed", ""),
        (head("200 OK", *(b"X%d: y" % number for number in range(1000))), "failed", ""),
    ],
    ids=itertools.count(),
)
def test_a_response_ends_its_own_photo_only(tmp_path: Path, answer: bytes, result: str, detail: str) -> None:
    found = fetched({"odd": said(answer)}, tmp_path)["odd"]
    assert found.result == result, found
    assert detail in (found.detail or "")


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["Location", "Retry-After", "Content-Range", "ETag", "Last-Modified", "Content-Type"]),
    value=st.binary(max_size=60).filter(lambda value: not set(value) & set(b"\r\n\0")) | st.text(max_size=20).map(
        lambda text: text.replace("\r", "").replace("\n", "").replace("\0", "").encode("utf-8", "replace")),
    status=st.sampled_from(["200 OK", "206 Part", "302 Found", "304 Same", "416 No", "429 Slow"]),
)  # fmt: skip
def test_any_header_value_leaves_a_readable_log(
    tmp_path_factory: pytest.TempPathFactory, name: str, value: bytes, status: str
) -> None:
    folder = tmp_path_factory.mktemp("odd")
    answer = whole(status, photo(), name.encode() + b": " + value, *([] if name == "Content-Type" else [JPEG]))
    fetched({"odd": said(answer)}, folder)
    with sending({"odd": said(answer)}) as url:  # a second run, with the conditions that the first one recorded
        later = replace(QUICK, photos=replace(QUICK.photos, recheck_days=0))
        fetch_photos([PhotoRequest(item_key="odd", url=f"{url}/odd")], folder, later)
        assert read_outcomes(folder / FILE)["odd"].url == f"{url}/odd"


@settings(max_examples=300, deadline=None)
@given(value=st.text(max_size=40) | st.binary(max_size=40).map(lambda v: v.decode("utf-8", "surrogateescape")))
def test_the_readers_of_headers_never_raise(value: str) -> None:
    seconds = response_headers.retry_after(value)
    assert seconds is None or seconds >= 0
    kept = response_headers.validator({"ETag": value}, "ETag")
    assert kept is None or (kept == value and kept.isascii() and kept.isprintable())
    found = response_headers.content_range({"Content-Range": value})
    assert found is None or 0 <= found[0] < found[1]


def test_line_separators_in_a_log_line_are_kept(tmp_path: Path) -> None:
    with appending(tmp_path / FILE) as stream:
        append(stream, Outcome(item_key="B1", url="u", result="fetched", etag='"a\u2028b\x85c"'))
        append(stream, Outcome(item_key="B2", url="u", result="failed", detail="\x1b[2J\udcff\n"))
    found = read_outcomes(tmp_path / FILE)
    assert found["B1"].etag == '"a\u2028b\x85c"'
    assert found["B2"].detail == "\\x1b[2J\\udcff\\n"


@pytest.mark.parametrize(
    "answer",
    [
        slowly(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        slowly(b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        slowly(b"HTTP/1.1 200 OK\r\nX: ", b"y"),
        slowly(head("200 OK", JPEG, b"Content-Length: 900000"), b"y"),
        slowly(head("200 OK", JPEG, b"Transfer-Encoding: chunked"), b"1\r\ny\r\n"),
    ],
    ids=["interim", "header lines", "one header", "body", "chunks"],
)
def test_a_trickling_server_costs_no_more_than_the_deadline(tmp_path: Path, answer: Answer) -> None:
    started = time.monotonic()
    assert fetched({"slow": answer}, tmp_path)["slow"].result == "failed"
    config = replace(QUICK, max_response_seconds=1.5, min_bytes_per_second=0)
    with sending({"slow": answer}) as url, pytest.raises(InputError, match=r"run again later"):
        download([Remote(name="slow", url=f"{url}/slow")], tmp_path, config)
    assert time.monotonic() - started < 10


def test_interim_responses_are_counted(tmp_path: Path) -> None:
    def flood(_request: bytes) -> Iterator[bytes]:
        while True:
            yield b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" * 1000

    patient = replace(QUICK, read_timeout_seconds=60, photos=replace(QUICK.photos, seconds=60))
    started = time.monotonic()
    found = fetched({"flood": flood, "few": said(b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + GOOD)}, tmp_path, patient)
    assert found["few"].result == "fetched"
    assert "interim responses" in (found["flood"].detail or "")
    assert time.monotonic() - started < 10


def test_an_endless_chunked_file_leaves_the_spare_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 20_000_000

    class Usage:
        @property
        def free(self) -> int:
            return free - sum(path.stat().st_size for path in tmp_path.iterdir())

    monkeypatch.setattr(download_state.shutil, "disk_usage", lambda _folder: Usage())
    block = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    endless = slowly(head("200 OK", b'ETag: "1"', b"Transfer-Encoding: chunked"), block, pause=0)
    config = replace(QUICK, min_free_disk_bytes=8_000_000)
    with sending({"f.bin": endless}) as url, pytest.raises(InputError, match=r"bytes free for f\.bin"):
        download([Remote(name="f.bin", url=f"{url}/f.bin")], tmp_path, config)
    assert list(tmp_path.iterdir()) == []


def test_every_file_ends_with_its_own_reason(tmp_path: Path) -> None:
    odd = said(head("302 Found", b"Location: http://[bad"))
    good = said(whole("200 OK", b"content", b'ETag: "1"'))
    with sending({"odd": odd, "good": good}) as url, pytest.raises(InputError, match=r"bad_address .* for odd"):
        download([Remote(name=name, url=f"{url}/{name}") for name in ("odd", "good")], tmp_path, QUICK)
    assert (tmp_path / "good").read_bytes() == b"content"


def test_an_early_or_late_date_is_a_wait_or_none() -> None:
    assert response_headers.retry_after("Mon, 01 Jan 0001 00:00:00 +2300") in {None, 0.0}
    assert response_headers.retry_after("Fri, 31 Dec 9999 23:59:59 -2300") is None
    assert response_headers.retry_after("Thu, 01 Jan 1970 00:00:00 -0000") == 0.0
    assert (response_headers.retry_after("Fri, 31 Dec 2999 23:59:59 GMT") or 0) > 1e9
