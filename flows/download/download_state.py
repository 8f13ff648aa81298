"""State of a download: version metadata, disk budget, throughput guard and completeness check.

Writes one small JSON file beside each download. Trade-off: one file per download instead of one table, so that
metadata is renamed together with its file.
"""

import json
import shutil
import time
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp

from features.errors import InputError
from flows.download.http_client import IngestParams, TemporaryError
from flows.download.response_headers import content_range, validator
from flows.download.temporary_files import temporary

BLOCK_BYTES = 1 << 20


@dataclass(frozen=True, kw_only=True)
class DownloadMeta:
    """URL and version of a downloaded file, or of a partial download."""

    url: str
    etag: str | None
    last_modified: str | None
    bytes: int | None
    """Size of the complete file."""
    sha256: str | None = None
    """SHA-256 of the complete file; None for a partial download."""

    @property
    def validator(self) -> str | None:
        """The validator for If-Range: a strong ETag, else the Last-Modified date."""
        return self.etag if self.etag and not self.etag.startswith("W/") else self.last_modified


class DiskBudget:
    """Reserves disk space for running downloads, so that two of them never rely on the same free bytes."""

    def __init__(self, folder: Path, min_free_disk_bytes: int) -> None:
        self._folder, self._min_free = folder, min_free_disk_bytes
        self._open: dict[str, int] = {}

    def reserve(self, name: str, num_bytes: int) -> None:
        """Reserves space for the remaining bytes of a file; raises InputError if the disk is too full."""
        self._open.pop(name, None)
        free = shutil.disk_usage(self._folder).free - sum(self._open.values()) - self._min_free
        if num_bytes and num_bytes > free:
            raise InputError(
                f"{max(free, 0):,} bytes free for {name} beside {self._min_free:,} that must stay free",
                f"{num_bytes:,} bytes", "free disk space, or lower ingest.min_free_disk_bytes, and run again",
            )  # fmt: skip
        self._open[name] = num_bytes

    def release(self, name: str) -> None:
        """Releases the reservation of a file that is complete or has failed."""
        self._open.pop(name, None)


class ThroughputGuard:
    """Aborts a response whose mean throughput over `read_timeout_seconds` is below `min_bytes_per_second`."""

    def __init__(self, config: IngestParams) -> None:
        self._min_rate, self._window = config.min_bytes_per_second, config.read_timeout_seconds
        self._since, self._bytes = time.monotonic(), 0

    def check(self, num_bytes: int) -> None:
        """Counts a block; raises TemporaryError at the end of a window that was too slow."""
        self._bytes += num_bytes
        spent = time.monotonic() - self._since
        if spent < self._window:
            return
        if self._bytes < self._min_rate * spent:
            raise TemporaryError(f"{self._bytes / spent:.0f} bytes per second, fewer than {self._min_rate}")
        self._since, self._bytes = time.monotonic(), 0


def is_whole_gzip(path: Path) -> bool:
    """Whether the file consists of complete gzip streams with valid checksums."""
    inflate, begun = zlib.decompressobj(wbits=31), False
    try:
        with path.open("rb") as stream:
            while block := stream.read(BLOCK_BYTES):
                while block:
                    begun = True
                    inflate.decompress(block, BLOCK_BYTES)  # in bounded pieces: a block of zeros expands a thousandfold
                    block = inflate.unconsumed_tail
                    if inflate.eof:
                        block, begun = inflate.unused_data, False
                        inflate = zlib.decompressobj(wbits=31)
    except zlib.error:
        return False
    return not begun and path.stat().st_size > 0


def meta_from_response(url: str, response: aiohttp.ClientResponse, start: int) -> DownloadMeta:
    """The metadata of a response whose first byte is byte `start` of the file."""
    headers: Mapping[str, str] = response.headers
    length = response.content_length
    total: int | None = None if length is None else length + start
    if response.status == 206 and (found := content_range(headers)):
        total = found[1]
    etag, last_modified = validator(headers, "ETag"), validator(headers, "Last-Modified")
    return DownloadMeta(url=url, etag=etag, last_modified=last_modified, bytes=total)


def meta_path(path: Path) -> Path:
    """The path of a file's metadata; a partial download has its own."""
    return path.with_name(f".{path.name.strip('.')}.note.json")


def read_meta(path: Path) -> DownloadMeta | None:
    """The metadata of a file; None if it is absent or unreadable."""
    try:
        return DownloadMeta(**json.loads(meta_path(path).read_text(encoding="utf-8")))
    except (FileNotFoundError, ValueError, TypeError):  # absent, or truncated by a crash
        return None


def write_meta(path: Path, meta: DownloadMeta) -> None:
    """Writes the metadata of a file atomically."""
    written = temporary(meta_path(path))
    written.write_text(json.dumps(asdict(meta)), encoding="utf-8")
    written.rename(meta_path(path))
