"""Stage `candidates`: draws the fixed negatives of the direct task.

Reads `sequences/items` and `sequences/interactions`. Writes `candidates`, one row per user and split.
Trade-off: negatives are uniform over unseen items, as published, which favours popularity; a fixed table makes scores
comparable between runs.
"""

import shutil
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from features import schema
from features.runtime import stage
from features.runtime.seeds import rng, stable_hash
from features.store import tables
from pipelines.negatives.unseen_items import unseen_items, unseen_rows

SPLITS = ("valid", "test")
_USERS_AT_ONCE = 4096


class ScarceError(Exception):
    """A user of these rows has too few unseen items; what suffices depends on the users of all rows."""


@dataclass(frozen=True, kw_only=True)
class Params:
    """Parameters of the stage `candidates`."""

    num_negatives: int = 99
    """Negatives per candidate list, without the target."""

    def __post_init__(self) -> None:
        if self.num_negatives < 1:
            raise ValueError(f"num_negatives = {self.num_negatives} must be at least 1")


SECTIONS: tuple[str, ...] = ()
READS = ("data/${dataset}/sequences/items", "data/${dataset}/sequences/interactions")
WRITES = ("data/${dataset}/candidates",)


def run(params: Params, context: stage.Context) -> int:
    """Draw the fixed unseen negatives of every user for validation and test."""
    inputs = {name: context.table(name) for name in ("sequences/items", "sequences/interactions")}
    parts = tables.checked_parts(inputs["sequences/interactions"], schema.INTERACTIONS)
    num_items = tables.read_table(inputs["sequences/items"], schema.CATALOGUE, columns=["item_id"]).num_rows
    folder = context.table("candidates")
    staging = tables.begin_table(folder)
    try:
        for number, (user_ids, item_ids) in enumerate(_whole_users(parts, tables.ROWS_PER_PART // len(SPLITS))):
            try:
                users, drawn = draw(user_ids, item_ids, num_items, params.num_negatives, context.seed)
            except ScarceError as error:
                from pipelines.negatives import small_catalogue

                raise small_catalogue.explained(parts, num_items, params.num_negatives, len(schema.SPLITS)) from error
            tables.write_part(staging, schema.CANDIDATES, number, _table(users, drawn))
        provenance = tables.Provenance(stage="candidates", params=asdict(params), inputs=inputs)
        return tables.finish_table(folder, schema.CANDIDATES, provenance)
    finally:  # nothing is left to remove after a success
        shutil.rmtree(staging, ignore_errors=True)


def _whole_users(parts: Iterable[Path], most: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields (user_ids, item_ids) of at most `most` users at a time, from parts sorted by user."""
    rows = np.empty((2, 0), np.int32)
    for part in parts:
        table = pq.read_table(part, columns=["user_id", "item_id"])
        read = np.stack([table.column(name).to_numpy() for name in ("user_id", "item_id")])
        rows = np.concatenate([rows, read], axis=1)
        begins = np.flatnonzero(np.diff(rows[0], prepend=0))
        while len(begins) > most:  # the users before are then complete
            yield rows[0, : begins[most]], rows[1, : begins[most]]
            rows, begins = rows[:, begins[most] :], begins[most:] - begins[most]
    yield rows[0], rows[1]


def _table(users: np.ndarray, drawn: np.ndarray) -> pa.Table:
    """Rows of `candidates` in key order; test sorts before valid."""
    num_users, count = len(users), drawn.shape[1]
    ordered = drawn.reshape(num_users, len(SPLITS), count)[:, ::-1]
    offsets = np.arange(0, drawn.size + 1, count, dtype=np.int32)
    return pa.table({
        "user_id": np.repeat(users, len(SPLITS)),
        "split": list(SPLITS[::-1]) * num_users,
        "item_ids": pa.ListArray.from_arrays(offsets, ordered.ravel()),
    })  # fmt: skip


def draw(
    user_ids: np.ndarray, item_ids: np.ndarray, num_items: int, num_negatives: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Samples distinct unseen items of each user for valid and test.

    Args:
        user_ids: (N,) user of each interaction, ascending.
        item_ids: (N,) item of each interaction, of all splits.
        num_items: Number of items in the catalogue, numbered from 1.
        num_negatives: K, the number of items to sample.
        seed: The run's seed; a user's sample depends only on it, the split and the user.

    Returns:
        users (U,), ascending, and int32 items (2 U, K), ascending in each row; rows are user 1 valid, user 1 test, ...

    Raises:
        ScarceError: A user has fewer than K unseen items.
    """
    pairs = np.unique(user_ids.astype(np.int64) * (num_items + 1) + item_ids)
    users, starts = np.unique(pairs // (num_items + 1), return_index=True)
    bounds = np.append(starts, len(pairs))
    left = num_items - np.diff(bounds)
    if len(users) and left.min() < num_negatives:
        raise ScarceError(f"a user with {left.min()} unseen items")
    items = (pairs % (num_items + 1)).astype(np.int32)
    drawn = np.empty((len(users), len(SPLITS), num_negatives), np.int32)
    for first in tqdm(range(0, len(users), _USERS_AT_ONCE), desc="candidates", disable=None):
        some = slice(first, first + _USERS_AT_ONCE)
        histories = np.split(items, bounds[first : first + _USERS_AT_ONCE + 1])[1 : len(users[some]) + 1]
        drawn[some] = _drawn(users[some].tolist(), histories, num_items, num_negatives, seed)
    return users, drawn.reshape(-1, num_negatives)


def _drawn(users: list[int], histories: list[np.ndarray], num_items: int, count: int, seed: int) -> np.ndarray:
    """(U, 2, K) for a block of users: vectorised where enough items are unseen, one by one for the other rows."""
    names = [(split, user) for user in users for split in SPLITS]
    owned = [history for history in histories for _ in SPLITS]
    lengths = np.array([len(history) for history in owned])
    drawn, done = np.zeros((len(names), count), np.int32), np.zeros(len(names), bool)
    ample = np.flatnonzero(num_items - lengths >= 4 * count)
    if len(ample):
        keys = np.array([stable_hash(seed, "candidates", *names[row]) for row in ample.tolist()], np.uint64)
        excluded = np.concatenate([owned[row] for row in ample.tolist()])
        rows = np.repeat(np.arange(len(ample)), lengths[ample])
        drawn[ample], done[ample] = unseen_rows(keys, excluded, rows, num_items, count)
    for row in np.flatnonzero(~done).tolist():
        generator = rng(seed, "candidates", *names[row])
        drawn[row] = sorted(unseen_items(generator, set(owned[row].tolist()), num_items, count))
    return drawn.reshape(len(users), len(SPLITS), count)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage from the command line."""
    return stage.main("candidates", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
