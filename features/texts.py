"""Titles to feature vectors: the stage `texts`.

Enters: the catalogue's titles. Leaves: the table `texts` with one row for every item, zeros where there is no title.
Trade-off: the same encoder as for photos, so that both kinds of feature lie in one space when it is a trained CLIP.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np

from features import stage
from features.clip import ClipParams, Encoder, load_encoder
from features.params import build


@dataclass(frozen=True, kw_only=True)
class Params:
    """Parameters of the stage `texts`."""

    batch_size: int = 256
    """Titles encoded at once."""
    center: bool = False
    """Subtract the mean feature of the catalogue before scaling to length 1: for encoders whose features are
    nearly collinear. The mean is kept in the manifest."""

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ValueError("batch_size >= 1 must hold")


SECTIONS = ("clip",)
READS = ("data/${dataset}/sequences/items",)
WRITES = ("data/${dataset}/texts",)


def run(params: Params, context: stage.Context) -> int:
    """Encode the title of every item of the catalogue."""
    from features.schema import CATALOGUE, text_embeddings
    from features.tables import Provenance, read_table, write_table
    from features.vectors import centred, vector_table

    clip = build(ClipParams, context.shared["clip"], where="clip")
    items = read_table(context.table("sequences/items"), CATALOGUE, columns=["item_id", "title"])
    titles: list[str | None] = items["title"].to_pylist()
    encoder = load_encoder(clip)
    vectors = encode_titles(titles, encoder, params.batch_size)
    present = np.array([has_words(title) for title in titles], dtype=bool)
    center: list[float] | None = None
    if params.center:
        vectors, center = centred(vectors, present)
    table = text_embeddings(encoder.width)
    provenance = Provenance(
        stage="texts", params={"texts": asdict(params), "clip": asdict(clip)},
        inputs={"sequences/items": context.table("sequences/items")},
        notes={
            "encoder": encoder.description, "center": center,
            "counts": {"items": len(titles), "with_title": int(present.sum()), "without": int((~present).sum())},
        },
    )  # fmt: skip
    return write_table(context.table("texts"), table, vector_table(table, items["item_id"], vectors), provenance)


def encode_titles(titles: Sequence[str | None], encoder: Encoder, batch_size: int) -> np.ndarray:
    """Features (I, D) float32 of the titles, in their order; a row of zeros where a title is None or blank.

    Example:
        Titles ["Red kettle", None] give two rows; the first has length 1, the second is all zeros.
    """
    from tqdm import tqdm

    vectors = np.zeros((len(titles), encoder.width), np.float32)
    rows = [row for row, title in enumerate(titles) if has_words(title)]
    starts = range(0, len(rows), batch_size)
    for start in tqdm(starts, desc="texts", unit=" batches", disable=None):
        chosen = rows[start : start + batch_size]
        vectors[chosen] = encoder.encode_texts([titles[row] or "" for row in chosen])
    return vectors


def has_words(title: str | None) -> bool:
    """Whether there is a title to encode."""
    return bool(title and title.strip())


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage from the command line."""
    return stage.main("texts", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
