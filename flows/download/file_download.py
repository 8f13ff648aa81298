"""Files by address: resumed where they stopped, checked, renamed into place when whole.

Enters: names, addresses and what is known of their bytes. Leaves: a folder of whole files, each with a note of its
validators (ETag, Last-Modified) and SHA-256, so that the next run asks "changed?" instead of fetching.
Trade-off: a part is kept only if the server gave a validator to resume by; without one a broken file starts again.
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
    Ledger,
    Note,
    Pace,
    is_whole_gzip,
    note_of,
    note_path,
    read_note,
    write_note,
)  # fmt: skip
from flows.download.host_policy import HostPolicy, RefusedError, host_of
from flows.download.http_client import AbsentError, DeniedError, Fetching, TemporaryError, answer, client, patiently

log = logging.getLogger("vip5")


@dataclass(frozen=True, kw_only=True)
class Remote:
    """One file to fetch: its name below the folder, its address, and its SHA-256 where that is known."""

    name: str
    url: str
    sha256: str | None = None


def download(remotes: Sequence[Remote], folder: Path, how: Fetching) -> dict[str, str]:
    """Brings every file into `folder`; returns fetched or unchanged by name.

    Raises:
        InputError: the first file that could not be had, after the others ended; nothing half-written has its name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    outcomes = asyncio.run(_download(remotes, folder, how))
    for outcome in outcomes.values():
        if isinstance(outcome, BaseException):
            raise outcome
    return {name: str(outcome) for name, outcome in outcomes.items()}


async def _download(remotes: Sequence[Remote], folder: Path, how: Fetching) -> dict[str, str | BaseException]:
    hosts = tuple(dict.fromkeys(host_of(remote.url) for remote in remotes))
    policy = HostPolicy(allowed=(*hosts, *how.hosts), private=how.private_hosts)
    gates = defaultdict[str, asyncio.Semaphore](lambda: asyncio.Semaphore(how.per_host))
    async with client(how, policy, connections=max(len(remotes), 1) * 2) as session:
        fetches = [_Fetch(remote, folder, how, policy, session) for remote in remotes]
        ledger = Ledger(folder, how.spare_bytes)
        await _check_room(fetches, ledger)

        async def gated(fetch: "_Fetch") -> str:
            async with gates[host_of(fetch.remote.url)]:
                try:
                    return await fetch.run(ledger)
                finally:
                    ledger.release(fetch.remote.name)

        results = await asyncio.gather(*(gated(fetch) for fetch in fetches), return_exceptions=True)
    return {remote.name: result for remote, result in zip(remotes, results, strict=True)}


async def _check_room(fetches: Sequence["_Fetch"], ledger: Ledger) -> None:
    """Asks every server for the size first, so that a full disk is told before the first byte."""
    sizes = await asyncio.gather(*(fetch.missing_bytes() for fetch in fetches))
    ledger.claim("all files", sum(sizes))
    ledger.release("all files")


class _Fetch:
    """The state of one file on its way."""

    def __init__(
        self, remote: Remote, folder: Path, how: Fetching, policy: HostPolicy, session: aiohttp.ClientSession
    ) -> None:
        self.remote, self.how, self.policy, self.session = remote, how, policy, session
        self.place = folder / remote.name
        self.place.parent.mkdir(parents=True, exist_ok=True)
        self.part = self.place.with_name(f".{self.place.name}.part")
        self.reached = 0

    async def missing_bytes(self) -> int:
        """Bytes still to come, by HEAD; 0 where the server does not say."""
        held = read_note(self.place) if self.place.is_file() else None
        try:
            async with answer(
                self.session, self.remote.url, self.policy, redirects=self.how.redirects, method="HEAD"
            ) as head:
                if held is not None and held.bytes == head.content_length and held.etag == head.headers.get("ETag"):
                    return 0
                part = self.part.stat().st_size if self.part.is_file() else 0
                return max(0, (head.content_length or 0) - part)
        except (TemporaryError, AbsentError, DeniedError, RefusedError):
            return 0  # the request for the file itself will tell

    async def run(self, ledger: Ledger) -> str:
        """Fetches the file, resuming and retrying; returns fetched or unchanged."""
        name, url = self.remote.name, self.remote.url
        try:
            outcome = await patiently(
                lambda: self._once(ledger), self.how, progress=lambda: self.reached,
                on_wait=lambda said: log.warning("ingest: %s: %s", name, said),
            )  # fmt: skip
        except TemporaryError as error:
            wait = f" and asks for {error.wait:.0f} s of patience" if error.wait else ""
            raise InputError(
                f"{error.found}{wait} for {name}", f"the file at {url}", "run again later: it resumes where it stopped"
            ) from error
        except (AbsentError, DeniedError, RefusedError) as error:
            raise InputError(f"{error} for {name}", f"a file at {url}", "correct its address in params.yaml") from error
        return outcome

    async def _once(self, ledger: Ledger) -> str:
        part = read_note(self.part) if self.part.is_file() else None
        if part is not None and part.bytes == self.part.stat().st_size:  # stopped between the last byte and its name
            await asyncio.to_thread(self._finish, part)
            return "fetched"
        held = read_note(self.place) if self.place.is_file() else None
        headers = self._headers(held)
        async with answer(
            self.session, self.remote.url, self.policy, redirects=self.how.redirects, headers=headers
        ) as response:
            if response.status == 304 and held is not None:
                self._check_hash(held.sha256)
                return "unchanged"
            start = self._start(response)
            note = note_of(self.remote.url, response, start)
            if note.bytes is not None:
                ledger.claim(self.remote.name, note.bytes - start)
            await self._receive(response, note, start)
        await asyncio.to_thread(self._finish, note)
        return "fetched"

    def _headers(self, held: Note | None) -> dict[str, str]:
        """Conditional where the whole file is here, a range where a part of a known version is."""
        if held is not None and held.url == self.remote.url and held.bytes == self.place.stat().st_size:
            wanted = {"If-None-Match": held.etag, "If-Modified-Since": None if held.etag else held.last_modified}
            return {key: value for key, value in wanted.items() if value}
        part = read_note(self.part) if self.part.is_file() else None
        if part is None or part.validator is None or part.url != self.remote.url or not self.part.stat().st_size:
            return {}
        return {"Range": f"bytes={self.part.stat().st_size}-", "If-Range": part.validator}

    def _start(self, response: aiohttp.ClientResponse) -> int:
        """Where the answer's bytes belong; whatever cannot be continued for certain is thrown away."""
        part = read_note(self.part) if self.part.is_file() else None
        size = self.part.stat().st_size if part else 0
        if response.status == 206 and part is not None:
            now = note_of(self.remote.url, response, size)
            fits = response.headers.get("Content-Range", "").startswith(f"bytes {size}-")
            if fits and (now.validator, now.bytes) == (part.validator, part.bytes):
                return size
        if response.status in {206, 416}:
            self._discard()
            raise TemporaryError(f"another version than the {size:,} bytes held of {self.remote.name}")
        if response.status == 304:
            raise TemporaryError("status 304 for a file that is not here")
        return 0

    async def _receive(self, response: aiohttp.ClientResponse, note: Note, start: int) -> None:
        """Appends the answer to the part from byte `start` on."""
        if note.bytes is None and self.remote.sha256 is None and not response.headers.get("Transfer-Encoding"):
            raise DeniedError("an answer without a length, so that its end cannot be known")
        if not start:
            self._discard()
            write_note(self.part, note)
        with (
            self.part.open("r+b" if start else "wb") as stream,
            tqdm(total=note.bytes, initial=start, unit="B", unit_scale=True, desc=self.remote.name, delay=2,
                 disable=None, leave=False) as bar,
        ):  # fmt: skip
            stream.seek(start)
            pace = Pace(self.how)
            async for block in response.content.iter_chunked(BLOCK_BYTES):
                stream.write(block)
                self.reached = max(self.reached, stream.tell())
                bar.update(len(block))
                pace.check(len(block))
            stream.flush()
            os.fsync(stream.fileno())

    def _finish(self, note: Note) -> None:
        """Checks the whole part and renames it into its place."""
        size = self.part.stat().st_size
        if note.bytes is not None and size != note.bytes:
            self._discard()
            raise TemporaryError(f"{size:,} bytes where {note.bytes:,} were announced")
        digest = file_digest(self.part)
        self._check_hash(digest)
        if self.remote.sha256 is None and self.place.suffix == ".gz" and not is_whole_gzip(self.part):
            self._discard()
            raise InputError(
                f"{self.remote.name} that ends before its gzip stream does",
                "a whole file",
                "run again, or tell the host",
            )
        note_path(self.place).unlink(missing_ok=True)
        self.part.rename(self.place)
        write_note(self.place, Note(**asdict(note) | {"sha256": digest, "bytes": size}))
        note_path(self.part).unlink(missing_ok=True)

    def _check_hash(self, digest: str | None) -> None:
        if self.remote.sha256 is not None and digest != self.remote.sha256:
            self._discard()
            raise InputError(
                f"{self.remote.name} with sha256 {digest}", f"{self.remote.sha256}, as params.yaml says",
                "run again; if it stays so, the file at that address is another one",
            )  # fmt: skip

    def _discard(self) -> None:
        self.part.unlink(missing_ok=True)
        note_path(self.part).unlink(missing_ok=True)
