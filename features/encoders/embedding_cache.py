"""Caches features on disk in shards, keyed by the digest of the encoded bytes.

Writes `work/features/<digest of everything that determines a feature>/shard-*.parquet`.
Trade-off: features are looked up by content, not by item or path. New items, renamed and moved photos cost nothing, and
a changed photo is encoded again; unused features stay until `work/` is removed.
"""

import logging
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32

from features.errors import TableError
from features.vision.image_decoding import Rejection
from features.vision.image_loader import Found, Outcome

log = logging.getLogger("vip5")

READERS = 4  # shards read at once


class Shards:
    """The finished shards of one folder; several processes may add shards concurrently.

    Args:
        folder: Shard folder; created if it does not exist.
        width: D, the length of a vector.
    """

    def __init__(self, folder: Path, width: int) -> None:
        self.folder, self.width = folder, width
        folder.mkdir(parents=True, exist_ok=True)
        self._digests: dict[str, list[str]] = {}  # file name to its digests

    def known(self) -> set[str]:
        """Digests in all finished shards; reads only files added since the last call."""
        for path in sorted(self.folder.glob("shard-*.parquet")):
            if path.name not in self._digests:
                digests = self._read(path, ["digest"])
                if digests is not None:
                    self._digests[path.name] = digests["digest"].to_pylist()
        return {digest for digests in self._digests.values() for digest in digests}

    def add(self, outcomes: Sequence[Outcome], vectors: Float32[np.ndarray, "N D"]) -> Path:
        """Writes one shard atomically and syncs it to disk.

        Args:
            outcomes: One per photo or title.
            vectors: in the same order; rows of rejects are ignored when read.
        """
        digests = [outcome.digest for outcome in outcomes]
        name = f"shard-{sha256(' '.join(digests).encode()).hexdigest()[:20]}.parquet"
        temporary = self.folder / f".{name}.{os.getpid()}.tmp"
        numbers = pa.py_buffer(np.ascontiguousarray(vectors, "<f4"))
        table = pa.table({
            "digest": digests,
            "kind": pa.array([outcome.kind for outcome in outcomes], pa.string()),
            "treatment": pa.array([" ".join(outcome.treatment) for outcome in outcomes], pa.string()),
            "reason": pa.array([o.rejection.reason if o.rejection else None for o in outcomes], pa.string()),
            "detail": pa.array([o.rejection.detail if o.rejection else None for o in outcomes], pa.string()),
            "vector": pa.Array.from_buffers(pa.binary(4 * self.width), len(digests), [None, numbers]),
        })  # fmt: skip
        with temporary.open("wb") as stream:
            pq.write_table(
                table,
                stream,
                compression="none",
                use_dictionary=False,
                write_page_checksum=True,
                write_statistics=False,
            )
            stream.flush()
            os.fsync(stream.fileno())
        path = self.folder / name
        temporary.rename(path)
        self._digests[name] = digests
        return path

    def find(self, digests: Iterable[str]) -> Found:
        """Outcomes and features of `digests`, all of which must be known.

        Raises:
            TableError: A digest is missing, or its shard is corrupt.
        """
        wanted = set(digests)
        rows: dict[str, int] = {}
        parts: list[tuple[str, int, list[int]]] = []  # file, index of its first row, rows to copy
        for name, held in sorted(self._digests.items()):
            chosen = [i for i, digest in enumerate(held) if digest in wanted and digest not in rows]
            if chosen:
                start = len(rows)
                parts.append((name, start, chosen))
                rows.update((held[i], start + place) for place, i in enumerate(chosen))
        vectors = np.empty((len(rows), self.width), np.float32)
        with ThreadPoolExecutor(READERS, thread_name_prefix="shards") as pool:
            taken = list(pool.map(lambda part: self._take(vectors, *part), parts))
        lost = len(wanted - rows.keys()) + sum(outcomes is None for outcomes in taken)
        if lost:
            raise TableError(
                f"{lost} features that {self.folder} no longer holds", "its finished shards",
                "run the stage again: it encodes what is missing",
            )  # fmt: skip
        return Found(rows=rows, outcomes=[one for outcomes in taken for one in outcomes or ()], vectors=vectors)

    def _take(
        self, vectors: Float32[np.ndarray, "N D"], name: str, start: int, chosen: list[int]
    ) -> list[Outcome] | None:
        """Copies rows of a shard into `vectors` at `start`; returns their outcomes, or None if the shard is corrupt."""
        table = self._read(self.folder / name, None)
        if table is None:
            return None
        column = table["vector"].combine_chunks()
        if pa.types.is_fixed_size_list(column.type):  # shards of earlier versions: same values, slower to read
            numbers = column.flatten().to_numpy().reshape(-1, self.width)
        else:
            numbers = np.frombuffer(column.buffers()[1], "<f4").reshape(-1, self.width)
        vectors[start : start + len(chosen)] = numbers if len(chosen) == len(numbers) else numbers[chosen]
        columns = [table[name].to_pylist() for name in ("digest", "kind", "treatment", "reason", "detail")]
        rows = list(zip(*columns, strict=True))
        return [_outcome(*rows[i]) for i in chosen]

    def _read(self, path: Path, columns: list[str] | None) -> pa.Table | None:
        """A shard's columns; a corrupt shard is renamed with a warning, so that its photos are encoded again."""
        try:
            return pq.read_table(path, columns=columns, page_checksum_verification=True, partitioning=None)
        except (OSError, pa.ArrowException) as error:
            log.warning("%s is corrupt (%s); its photos are encoded again", path, str(error).splitlines()[0][:120])
            with suppress(FileNotFoundError):
                path.rename(path.with_suffix(".broken"))
            self._digests.pop(path.name, None)
            return None


def _outcome(digest: str, kind: str | None, treatment: str, reason: str | None, detail: str | None) -> Outcome:
    return Outcome(
        digest=digest,
        kind=kind,
        treatment=tuple(treatment.split()),
        rejection=Rejection(reason=reason, detail=str(detail)) if reason else None,
    )
