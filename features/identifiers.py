"""Stage `identifiers`: assigns each item the text by which prompts refer to it.

Reads the catalogue and, for semantic and collaborative codes, features and train purchases.
Writes `identifiers`, with a unique code and a unique text per item.
Trade-off: one token per item (the default) is fast and exact, but each token is learned only from that item's own
purchases. Codes share tokens between similar items and make prompts longer.
"""

import string
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np

from features.errors import TableError
from features.runtime import stage


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Weights of the content sources in semantic codes; 0 omits a source."""

    image: float = 1.0
    """Photo features (images/embeddings)."""
    text: float = 1.0
    """Title features (texts)."""
    copurchase: float = 1.0
    """Singular vectors of the train split's co-purchases."""

    def __post_init__(self) -> None:
        values = (self.image, self.text, self.copurchase)
        if min(values) < 0 or max(values) <= 0:
            raise ValueError("weights must not be negative, nor all zero")


@dataclass(frozen=True, kw_only=True)
class Params:
    """Parameters of the stage `identifiers`."""

    scheme: Literal["token", "number", "semantic", "collaborative"] = "token"
    """token: `<item_17>`; number: `17`; semantic: residual codes of content; collaborative: co-purchase clusters."""
    levels: int = 3
    """semantic, collaborative: number of codes before the last one, which resolves collisions (1 to 25)."""
    codebook_size: int | None = None
    """semantic, collaborative: number of values per code; null for the smallest power of two that gives at least four
    codes per item."""
    copurchase_width: int = 32
    """semantic: width of the co-purchase embedding."""
    weights: Weights = field(default_factory=Weights)
    """semantic: weight of each content source."""
    iterations: int = 50
    """Maximum number of k-means iterations."""
    previous: str | None = None
    """semantic, collaborative: path of an earlier `identifiers` table, such as a champion's. Its items (with the same
    numbers, see `sequences.previous_items`) keep their codes; new items join the most similar known ones."""

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= 25:  # one letter per level, one for collisions
            raise ValueError(f"levels = {self.levels} is not in 1 to 25")
        if self.codebook_size is not None and self.codebook_size < 2:
            raise ValueError(f"codebook_size = {self.codebook_size} is not null, 2 or more")
        if self.copurchase_width < 1 or self.iterations < 1:
            raise ValueError("copurchase_width >= 1 and iterations >= 1 must hold")


SECTIONS: tuple[str, ...] = ()
READS = (
    "data/${dataset}/sequences/items",
    "data/${dataset}/sequences/interactions",
    "data/${dataset}/images/embeddings",
    "data/${dataset}/texts",
)
WRITES = ("data/${dataset}/identifiers",)


def run(params: Params, context: stage.Context) -> int:
    """Assign every catalogue item its identifier."""
    from features.schema import CATALOGUE, IDENTIFIERS
    from features.store.tables import Provenance, from_rows, read_table, write_table

    item_ids = read_table(context.table("sequences/items"), CATALOGUE, columns=["item_id"])["item_id"].to_numpy()
    collisions = 0
    inputs = {"sequences/items": context.table("sequences/items")}
    if params.scheme in {"token", "number"}:
        codes: list[list[int]] = [[int(item_id)] for item_id in item_ids]
    else:
        from features.item_codes.residual_kmeans import with_collisions_resolved

        clustered = _clustered(params, context, item_ids, inputs)
        if params.previous is None:
            clustered, collisions = with_collisions_resolved(clustered)
        else:
            from features.item_codes.stable_codes import extend_codes

            known = read_table(context.root / params.previous, IDENTIFIERS)["code"].to_pylist()
            clustered, collisions = extend_codes(clustered, known)
        codes = clustered.tolist()
    texts = [write_code(code, params.scheme) for code in codes]
    check_unique(item_ids.tolist(), codes, texts)
    rows = [
        {"item_id": int(item_id), "code": code, "text": text}
        for item_id, code, text in zip(item_ids, codes, texts, strict=True)
    ]
    notes = {
        "scheme": params.scheme, "collisions": collisions, "code_length": len(codes[0]) if codes else 0,
        "tokens": len({token for text in texts for token in text.replace("><", "> <").split()}),
    }  # fmt: skip
    shown = {name: value for name, value in asdict(params).items() if name != "previous"}  # as in sequences
    provenance = Provenance(stage="identifiers", params=shown, inputs=inputs, notes=notes)
    return write_table(context.table("identifiers"), IDENTIFIERS, from_rows(IDENTIFIERS, rows), provenance)


def _clustered(params: Params, context: stage.Context, item_ids: np.ndarray, inputs: dict[str, Any]) -> np.ndarray:
    """Codes (I, levels) from content or co-purchases; adds the tables that it reads to `inputs`."""
    from features.item_codes.residual_kmeans import (
        blocks,
        co_purchases,
        hierarchical_codes,
        residual_codes,
        spectral_rows,
    )
    from features.schema import INTERACTIONS, embeddings, text_embeddings
    from features.store.embeddings import read_vectors
    from features.store.tables import read_table

    inputs["sequences/interactions"] = context.table("sequences/interactions")
    bought = read_table(inputs["sequences/interactions"], INTERACTIONS, columns=["user_id", "item_id", "split"])
    train = np.array(bought["split"].to_pylist()) == "train"  # valid and test purchases are evaluation targets
    rows = np.searchsorted(item_ids, bought["item_id"].to_numpy()[train])
    together = co_purchases(bought["user_id"].to_numpy()[train], rows, len(item_ids))
    size = params.codebook_size or enough_values(len(item_ids), params.levels)
    seed, iterations = context.seed, params.iterations
    if params.scheme == "collaborative":
        return hierarchical_codes(together, params.levels, size, seed, iterations)
    parts = [(spectral_rows(together, params.copurchase_width, seed), params.weights.copurchase)]
    for name, table, weight in (
        ("images/embeddings", embeddings, params.weights.image),
        ("texts", text_embeddings, params.weights.text),
    ):
        if not weight:
            continue
        inputs[name] = context.table(name)
        ids, vectors = read_vectors(inputs[name], table)
        if not np.array_equal(ids, item_ids):
            raise TableError(
                f"{name} with {len(ids)} items", f"the {len(item_ids)} of sequences/items", "run `.venv/bin/dvc repro`"
            )
        parts.append((vectors, weight))
    return residual_codes(blocks(parts), params.levels, size, seed, iterations)


def enough_values(num_items: int, levels: int) -> int:
    """The smallest power of two with at least four codes of `levels` values per item.

    Example:
        >>> enough_values(368, 3), enough_values(11_924, 3), enough_values(1_000_000, 3)
        (16, 64, 256)
    """
    size = 2
    while size**levels < 4 * num_items:
        size *= 2
    return size


def write_code(code: Sequence[int], scheme: str) -> str:
    """The text that prompts use for a code.

    Example:
        >>> write_code([17], "token"), write_code([17], "number"), write_code([3, 1, 0], "semantic")
        ('<item_17>', '17', '<a_3><b_1><c_0>')
    """
    match scheme:
        case "number":
            return str(code[0])
        case "token":
            return f"<item_{code[0]}>"
        case _:
            return "".join(f"<{letter}_{part}>" for letter, part in zip(string.ascii_lowercase, code, strict=False))


def check_unique(item_ids: Sequence[int], codes: Sequence[Sequence[int]], texts: Sequence[str]) -> None:
    """Raises TableError if two items share a code or a text, because predictions would be ambiguous."""
    for name, values in (("code", [tuple(code) for code in codes]), ("text", list(texts))):
        first: dict[Any, int] = {}
        for item_id, value in zip(item_ids, values, strict=True):
            if value in first:
                raise TableError(
                    f"items {first[value]} and {item_id} with the same {name} {value!r}", f"one {name} per item",
                    "choose another identifiers.scheme",
                )  # fmt: skip
            first[value] = item_id


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage from the command line."""
    return stage.main("identifiers", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
