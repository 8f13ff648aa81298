"""Resumable file downloads: interrupted files continue, complete files are verified and renamed into place.

Writes a folder of complete files, each with its validators (ETag, Last-Modified) and SHA-256, so that the next run
sends a conditional request.

Trade-off: a partial download is resumed only if the server gave a validator; otherwise it starts from byte 0.
"""

import asyncio
import logging
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import aiohttp
from tqdm import tqdm

from features.errors import InputError
from features.store.manifests import file_digest
from flows.download.download_state import (
    BLOCK_BYTES,
    DiskBudget,
    DownloadMeta,
    ThroughputGuard,
    is_whole_gzip,
    meta_from_response,
    meta_path,
    read_meta,
    write_meta,
)  # fmt: skip
from flows.download.host_policy import HostPolicy, RefusedError, host_of
from flows.download.http_client import (
    AbsentError,
    DeniedError,
    IngestParams,
    TemporaryError,
    open_response,
    with_retries,
)
from flows.download.response_headers import content_range, validator
from flows.download.sessions import open_session
from flows.download.temporary_files import remove_strays

log = logging.getLogger("vip5")


@dataclass(frozen=True, kw_only=True)
class Remote:
    """A file to download: its name below the folder, its URL, and its SHA-256 if known."""

    name: str
    url: str
    sha256: str | None = None


def download(remotes: Sequence[Remote], folder: Path, config: IngestParams) -> dict[str, str]:
    """Downloads every file into `folder`; returns "fetched" or "unchanged" by name.

    Raises:
        InputError: a file could not be downloaded. Raised after the other downloads end; partial files keep their
            temporary names.
    """
    folder.mkdir(parents=True, exist_ok=True)
    remove_strays(folder)
    outcomes = asyncio.run(_download(remotes, folder, config))
    for outcome in outcomes.values():
        if isinstance(outcome, BaseException):
            raise outcome
    return {name: str(outcome) for name, outcome in outcomes.items()}


async def _download(remotes: Sequence[Remote], folder: Path, config: IngestParams) -> dict[str, str | BaseException]:
    hosts = tuple(dict.fromkeys(host_of(remote.url) for remote in remotes))
    policy = HostPolicy(allowed=(*hosts, *config.hosts), private=config.private_hosts)
    gates = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(config.per_host))
    async with open_session(config, policy, connections=max(len(remotes), 1) * 2) as session:
        fetches = [_Fetch(remote, folder, config, policy, session) for remote in remotes]
        budget = DiskBudget(folder, config.min_free_disk_bytes)
        await _check_room(fetches, budget)

        async def gated(fetch: "_Fetch") -> str:
            async with gates[host_of(fetch.remote.url)]:
                try:
                    return await fetch.run(budget)
                finally:
                    budget.release(fetch.remote.name)

        results = await asyncio.gather(*(gated(fetch) for fetch in fetches), return_exceptions=True)
    return {remote.name: result for remote, result in zip(remotes, results, strict=True)}


async def _check_room(fetches: Sequence["_Fetch"], budget: DiskBudget) -> None:
    """Requests the size of every file first, so that a full disk is reported before any download starts."""
    sizes = await asyncio.gather(*(fetch.missing_bytes() for fetch in fetches))
    budget.reserve("all files", sum(sizes))
    budget.release("all files")


class _Fetch:
    """The download of one file."""

    def __init__(
        self, remote: Remote, folder: Path, config: IngestParams, policy: HostPolicy, session: aiohttp.ClientSession
    ) -> None:
        self.remote, self.config, self.policy, self.session = remote, config, policy, session
        self.path = folder / remote.name
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.part = self.path.with_name(f".{self.path.name}.part")
        self.reached = 0

    async def missing_bytes(self) -> int:
        """Bytes still to download, by a HEAD request; 0 if the server does not give a size."""
        held = read_meta(self.path) if self.path.is_file() else None
        try:
            async with open_response(
                self.session, self.remote.url, self.policy, self.config, method="HEAD",
                seconds=self.config.max_response_seconds,
            ) as head:  # fmt: skip
                etag = validator(head.headers, "ETag")
                if held is not None and held.bytes == head.content_length and held.etag == etag:
                    return 0
                part = self.part.stat().st_size if self.part.is_file() else 0
                return max(0, (head.content_length or 0) - part)
        except (TemporaryError, AbsentError, DeniedError, RefusedError):
            return 0  # the GET request reports the error

    async def run(self, budget: DiskBudget) -> str:
        """Downloads the file with resumption and retries; returns "fetched" or "unchanged"."""
        name, url = self.remote.name, self.remote.url
        try:
            outcome = await with_retries(
                lambda: self._once(budget), self.config, progress=lambda: self.reached,
                on_wait=lambda message: log.warning("ingest: %s: %s", name, message),
            )  # fmt: skip
        except TemporaryError as error:
            wait = f" with Retry-After {error.wait:.0f} s" if error.wait else ""
            raise InputError(
                f"{error.found}{wait} for {name}", f"the file at {url}", "run again later; the download resumes"
            ) from error
        except (AbsentError, DeniedError, RefusedError) as error:
            raise InputError(f"{error} for {name}", f"a file at {url}", "correct its URL in params.yaml") from error
        return outcome

    async def _once(self, budget: DiskBudget) -> str:
        part = read_meta(self.part) if self.part.is_file() else None
        if part is not None and part.bytes == self.part.stat().st_size:  # interrupted before the rename
            await asyncio.to_thread(self._finish, part)
            return "fetched"
        held = read_meta(self.path) if self.path.is_file() else None
        headers = self._headers(held)
        async with open_response(
            self.session, self.remote.url, self.policy, self.config, headers=headers,
            seconds=self.config.max_response_seconds,
        ) as response:  # fmt: skip
            if response.status == 304 and held is not None:
                self._check_hash(held.sha256)
                return "unchanged"
            start = self._start(response)
            meta = meta_from_response(self.remote.url, response, start)
            if meta.bytes is not None:
                budget.reserve(self.remote.name, meta.bytes - start)
            await self._receive(response, meta, start, budget)
        await asyncio.to_thread(self._finish, meta)
        return "fetched"

    def _headers(self, held: DownloadMeta | None) -> dict[str, str]:
        """Headers of a conditional request for a complete file, or of a range request for a partial one."""
        if held is not None and held.url == self.remote.url and held.bytes == self.path.stat().st_size:
            wanted = {"If-None-Match": held.etag, "If-Modified-Since": None if held.etag else held.last_modified}
            return {key: value for key, value in wanted.items() if value}
        part = read_meta(self.part) if self.part.is_file() else None
        if part is None or part.validator is None or part.url != self.remote.url or not self.part.stat().st_size:
            return {}
        return {"Range": f"bytes={self.part.stat().st_size}-", "If-Range": part.validator}

    def _start(self, response: aiohttp.ClientResponse) -> int:
        """The file offset of the response's first byte; a partial file that cannot be resumed safely is deleted."""
        part = read_meta(self.part) if self.part.is_file() else None
        size = self.part.stat().st_size if part else 0
        if response.status == 206 and part is not None:
            now = meta_from_response(self.remote.url, response, size)
            fits = content_range(response.headers) == (size, now.bytes)
            if fits and (now.validator, now.bytes) == (part.validator, part.bytes):
                return size
        if response.status in {206, 416}:
            self._discard()
            raise TemporaryError(f"another version than the {size:,} bytes downloaded of {self.remote.name}")
        return 0

    async def _receive(
        self, response: aiohttp.ClientResponse, meta: DownloadMeta, start: int, budget: DiskBudget
    ) -> None:
        """Writes the response to the partial file from byte `start` on."""
        if meta.bytes is None and self.remote.sha256 is None and not response.headers.get("Transfer-Encoding"):
            raise DeniedError("a response without a length, whose completeness cannot be verified")
        if not start:
            self._discard()
            write_meta(self.part, meta)
        with (
            self.part.open("r+b" if start else "wb") as stream,
            tqdm(total=meta.bytes, initial=start, unit="B", unit_scale=True, desc=self.remote.name, delay=2,
                 disable=None, leave=False) as bar,
        ):  # fmt: skip
            stream.seek(start)
            guard = ThroughputGuard(self.config)
            async for block in response.content.iter_chunked(BLOCK_BYTES):
                if meta.bytes is None:
                    self._check_endless(budget, len(block))
                stream.write(block)
                self.reached = max(self.reached, stream.tell())
                bar.update(len(block))
                guard.check(len(block))
            stream.flush()
            os.fsync(stream.fileno())

    def _check_endless(self, budget: DiskBudget, num_bytes: int) -> None:
        """Raises InputError if the next block of a response without a length no longer fits on the disk."""
        try:
            budget.reserve(self.remote.name, num_bytes)
        except InputError:
            self._discard()
            raise

    def _finish(self, meta: DownloadMeta) -> None:
        """Verifies the complete partial file and renames it into place."""
        size = self.part.stat().st_size
        if meta.bytes is not None and size != meta.bytes:
            self._discard()
            raise TemporaryError(f"{size:,} bytes instead of {meta.bytes:,} announced")
        digest = file_digest(self.part)
        self._check_hash(digest)
        if self.remote.sha256 is None and self.path.suffix == ".gz" and not is_whole_gzip(self.part):
            self._discard()
            raise InputError(
                f"{self.remote.name} with a truncated gzip stream",
                "a complete file",
                "run again, or report it to the host",
            )
        meta_path(self.path).unlink(missing_ok=True)
        self.part.rename(self.path)
        write_meta(self.path, DownloadMeta(**asdict(meta) | {"sha256": digest, "bytes": size}))
        meta_path(self.part).unlink(missing_ok=True)

    def _check_hash(self, digest: str | None) -> None:
        if self.remote.sha256 is not None and digest != self.remote.sha256:
            self._discard()
            raise InputError(
                f"{self.remote.name} with sha256 {digest}", f"{self.remote.sha256} (params.yaml)",
                "run again; if the error persists, the file at that URL has changed",
            )  # fmt: skip

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        meta_path(self.part).unlink(missing_ok=True)
