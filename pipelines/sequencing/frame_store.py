"""Stores intermediate frames of `sequences`: in memory if they are small, else as memory-mapped files.

Trade-off: uncompressed Arrow IPC, so that a step reads two columns of a frame without touching the others. On disk that
is 36 bytes per interaction; the operating system caches what fits in memory.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa

from features.errors import TableError
from features.runtime.faults import disk_remedy


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """Frames by name, in `folder`, or in memory if it is None."""

    folder: Path | None = None
    held: dict[str, pl.DataFrame] = field(default_factory=dict)

    def write(self, name: str, frame: pl.DataFrame) -> None:
        """Stores `frame`; idempotent and safe to call from several processes.

        Raises:
            TableError: The disk is full, read-only or unavailable.
        """
        if self.folder is None:
            self.held[name] = frame
            return
        temporary = self.folder / f"{name}.{os.getpid()}.tmp"
        try:
            frame.write_ipc(temporary, compression="uncompressed")
            temporary.rename(self._path(name))
        except OSError as error:
            reason = error.strerror or str(error).splitlines()[0]
            raise TableError(f"{temporary} that cannot be written ({reason})", *disk_remedy(error)) from error

    def read(self, name: str) -> pl.DataFrame:
        """Returns the frame `name`."""
        if self.folder is None:
            return self.held[name]
        with pa.memory_map(str(self._path(name))) as file:
            frame = pl.from_arrow(pa.ipc.open_file(file).read_all(), rechunk=False)
        assert isinstance(frame, pl.DataFrame)  # noqa: S101 - a table, not one column
        return frame

    def lazily(self, prefix: str) -> list[pl.LazyFrame]:
        """Lazy frames whose names begin with `prefix`, sorted by name."""
        return [
            self.held[name].lazy() if self.folder is None else pl.scan_ipc(self._path(name))
            for name in self.names(prefix)
        ]

    def names(self, prefix: str) -> list[str]:
        """The names that begin with `prefix`, sorted."""
        known: Iterator[str] = iter(self.held)
        if self.folder is not None:
            known = (path.stem for path in self.folder.glob(f"{prefix}*.arrow"))
        return sorted(name for name in known if name.startswith(prefix))

    def drop(self, prefix: str) -> None:
        """Deletes the frames whose names begin with `prefix`."""
        for name in self.names(prefix):
            if self.folder is None:
                del self.held[name]
            else:
                self._path(name).unlink()

    def partitions(self, prefix: str, column: str, num_values: int) -> Iterator[tuple[int, pl.DataFrame]]:
        """Yields (value, rows of all frames) for each value of `column`, integers from 0.

        Args:
            prefix: The frames whose names begin with it; each must be sorted by `column`.
            column: Name of the column.
            num_values: Number of values.
        """
        values = np.arange(num_values + 1)
        bounds = {name: np.searchsorted(self.read(name)[column].to_numpy(), values) for name in self.names(prefix)}
        for value in range(num_values):
            slices = [self.read(name)[int(at[value]) : int(at[value + 1])] for name, at in bounds.items()]
            yield value, pl.concat(slices)

    def _path(self, name: str) -> Path:
        assert self.folder is not None  # noqa: S101 - checked by the callers
        return self.folder / f"{name}.arrow"
