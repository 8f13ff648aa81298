"""Parameters of the stage `records`."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Params:
    """Parameters of the stage `records`."""

    readers_per_file: int = 1
    """Number of workers that read one file in parallel; each parses every n-th block."""
    lines_per_block: int = 20_000
    """Lines per block and table part; blocks that reach 64 MB have fewer."""
    max_line_bytes: int = 1_048_576
    """Maximum line length in bytes; longer lines are rejected."""
    max_decompression_ratio: float = 100.0
    """Maximum ratio of decompressed to compressed bytes beyond the first 8 MB; above it the file is refused as a
    decompression bomb (dumps: 3 to 10)."""
    max_rejected_share: float = 0.1
    """Largest share of a file's lines that may be rejected, repeated items aside; above it the stage ends with the
    reasons (public dumps: below 0.001; a file of another format: nearly 1). Ten lines are always accepted unless they
    are most of the file. 1: files are not judged by their lines."""
    allow_truncated: bool = False
    """Whether an archive that is cut short counts as far as it goes; otherwise the stage ends."""
    placeholder_texts: tuple[str, ...] = ()
    """Texts that stand for no title, brand, headline or text, such as "No title"; compared without case after cleaning.
    With * at the end, every text that begins so."""
    max_text_share: float = 0.8
    """Largest share of the titles, headlines or texts that one text may have; a more frequent one is a filler, and its
    rows lose it. Applies to 20 rows or more; 1 keeps all."""

    def __post_init__(self) -> None:
        for name in ("readers_per_file", "lines_per_block", "max_line_bytes", "max_decompression_ratio"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least 1")
        if not 0 <= self.max_rejected_share <= 1:
            raise ValueError(f"max_rejected_share = {self.max_rejected_share} must lie between 0 and 1")
        if not 0.5 <= self.max_text_share <= 1:
            raise ValueError(f"max_text_share = {self.max_text_share} is not a share from 0.5 to 1")
        for text in self.placeholder_texts:
            if not text.removesuffix("*").strip() or text != " ".join(text.split()):
                raise ValueError(f"placeholder_texts: {text!r} is empty or has extra spaces, which no cleaned text has")
