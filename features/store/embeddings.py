"""Converts feature matrices to Arrow tables and back, by item.

Reads float rows and item ids. Writes `fixed_size_list<float16>` columns; returns float32 matrices.
Trade-off: float16 halves the table; cosines of CLIP features of length 1 change by less than 0.0005.
"""

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pyarrow as pa

    from features.schema import Table

ROWS_AT_ONCE = 2_048


def unit_rows(rows: np.ndarray) -> np.ndarray:
    """Scales every row to length 1; zero rows stay zero.

    Example:
        >>> unit_rows(np.array([[3.0, 4.0], [0.0, 0.0]])).tolist()
        [[0.6, 0.8], [0.0, 0.0]]
    """
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.where(lengths > 0, lengths, 1))


def centred(rows: np.ndarray, present: np.ndarray) -> tuple[np.ndarray, list[float]]:
    """Subtracts the mean of the `present` rows and scales them to length 1; returns all rows and the mean."""
    if not present.any():
        return rows, []
    mean = rows[present].mean(axis=0, dtype=np.float64)
    moved = rows.copy()
    moved[present] = unit_rows(rows[present] - mean)
    return moved, [round(float(value), 7) for value in mean]


def vector_table(
    table: "Table", item_ids: Any, vectors: np.ndarray, columns: Mapping[str, Sequence[Any]] | None = None
) -> "pa.Table":
    """An Arrow table of `table`'s schema with `vectors` (I, D) as the column `embedding`.

    Args:
        table: `embeddings(D)` or `text_embeddings(D)`.
        item_ids: One per row of `vectors`.
        vectors: Float rows; stored as float16.
        columns: The table's other columns, in the same row order; nullable ones may be omitted.
    """
    import pyarrow as pa

    kind = table.arrow.field("embedding").type
    flat = pa.array(_halved(vectors).reshape(-1), pa.float16())
    embedding = pa.FixedSizeListArray.from_arrays(flat, type=kind)
    absent = {column.name: pa.nulls(len(vectors), column.type) for column in table.columns if column.nullable}
    given: dict[str, Any] = absent | {"item_id": item_ids, "embedding": embedding, **(columns or {})}
    return pa.table({name: given[name] for name in table.arrow.names}, schema=table.arrow)


def _halved(rows: np.ndarray) -> np.ndarray:
    """The rows as float16, converted in threads."""
    halved = np.empty(rows.shape, np.float16)

    def convert(start: int) -> None:
        halved[start : start + ROWS_AT_ONCE] = rows[start : start + ROWS_AT_ONCE]

    with ThreadPoolExecutor() as pool:
        list(pool.map(convert, range(0, len(rows), ROWS_AT_ONCE)))
    return halved


def read_vectors(folder: Path, table: Any) -> tuple[np.ndarray, np.ndarray]:
    """The ascending item ids (I,) and the float32 vectors (I, D) of an embedding table."""
    from features.store.tables import read_table

    rows = read_table(folder, table, columns=["item_id", "embedding"]).combine_chunks()
    column = rows["embedding"].combine_chunks()
    width = column.type.list_size
    vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(-1, width).astype(np.float32)
    return rows["item_id"].to_numpy(), vectors
