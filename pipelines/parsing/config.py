"""Parameters of the stage `records`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Params:
    """How the files are cut into work."""

    readers_per_file: int = 1
    """Units of work a file: as many workers as may parse one file at the same time."""
    lines_per_block: int = 20_000
    """Lines of a block, which becomes one part of a table; a block of 64 MB has fewer."""
    max_line_bytes: int = 1_048_576
    """A longer line is rejected, in bytes."""
    max_decompression_ratio: float = 100.0
    """Bytes that one byte of a gzip file may become beyond its first 8 MB; more is a bomb (dumps: 3 to 10)."""

    def __post_init__(self) -> None:
        for name in ("readers_per_file", "lines_per_block", "max_line_bytes", "max_decompression_ratio"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least 1")
