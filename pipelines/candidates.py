"""Fixed negatives for the direct task: items that the user never bought, the same in every run.

Enters: `sequences/users`, `sequences/items`, `sequences/interactions`. Leaves: `candidates`, one row a user and split.
Trade-off: uniform negatives, as published, although popularity alone then does well; a fixed table at least makes
scores comparable.
"""

import logging
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from features import stage
from features.errors import TableError
from features.seeds import rng
from pipelines.negatives import unseen_items

log = logging.getLogger("vip5")
SPLITS = ("valid", "test")


@dataclass(frozen=True, kw_only=True)
class Params:
    """How many negatives."""

    num_negatives: int = 99
    """Items beside the target in a list of candidates."""

    def __post_init__(self) -> None:
        if self.num_negatives < 1:
            raise ValueError(f"num_negatives = {self.num_negatives} must be at least 1")


SECTIONS: tuple[str, ...] = ()
READS = ("data/${dataset}/sequences/items", "data/${dataset}/sequences/interactions")
WRITES = ("data/${dataset}/candidates",)


def run(params: Params, context: stage.Context) -> int:
    """Draw the fixed unseen negatives of every user for validation and test."""
    import pyarrow as pa

    from features import schema, tables

    items_folder, interactions_folder = (context.table(f"sequences/{name}") for name in ("items", "interactions"))
    num_items = tables.read_table(items_folder, schema.CATALOGUE, columns=["item_id"]).num_rows
    rows = tables.read_table(interactions_folder, schema.INTERACTIONS, columns=["user_id", "item_id"])
    user_ids, item_ids = rows.column("user_id").to_numpy(), rows.column("item_id").to_numpy()
    users, drawn = draw(user_ids, item_ids, num_items, params.num_negatives, context.seed)
    offsets = np.arange(0, drawn.size + 1, params.num_negatives, dtype=np.int32)
    table = pa.table({
        "user_id": np.repeat(users, len(SPLITS)),
        "split": list(SPLITS) * len(users),
        "item_ids": pa.ListArray.from_arrays(offsets, drawn.ravel()),
    })  # fmt: skip
    provenance = tables.Provenance(
        stage="candidates",
        params=asdict(params),
        inputs={"sequences/items": items_folder, "sequences/interactions": interactions_folder},
    )
    return tables.write_table(context.table("candidates"), schema.CANDIDATES, table, provenance)


def draw(
    user_ids: np.ndarray, item_ids: np.ndarray, num_items: int, num_negatives: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Distinct unseen items of each user for valid and test.

    Args:
        user_ids: (N,) user of each interaction, ascending.
        item_ids: (N,) item of each interaction, of all splits.
        num_items: items of the catalogue, numbered from 1.
        num_negatives: how many to draw, K.
        seed: the run's seed; a user's draw depends on it, the split and the user alone.

    Returns:
        users (U,), ascending, and int32 items (2 U, K), ascending in each row; rows are user 1 valid, user 1 test, ...

    Raises:
        TableError: a user has fewer than K unseen items.
    """
    users, starts = np.unique(user_ids, return_index=True)
    drawn = np.empty((len(users) * len(SPLITS), num_negatives), dtype=np.int32)
    for place, (user, history) in enumerate(_histories(users, starts, item_ids)):
        own = set(history.tolist())
        left = num_items - len(own)
        if left < num_negatives:
            raise TableError(
                f"user {user} with {left} unseen items in a catalogue of {num_items}",
                f"at least {num_negatives}",
                f"set candidates.num_negatives to {max(left, 1)} or less",
            )
        for offset, split in enumerate(SPLITS):
            generator = rng(seed, "candidates", split, user)
            drawn[place * len(SPLITS) + offset] = sorted(unseen_items(generator, own, num_items, num_negatives))
    return users, drawn


def _histories(users: np.ndarray, starts: np.ndarray, item_ids: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    from tqdm import tqdm

    histories = np.split(item_ids, starts[1:])
    yield from tqdm(zip(users.tolist(), histories, strict=True), total=len(users), desc="candidates", disable=None)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the stage from the command line."""
    return stage.main("candidates", Params, SECTIONS, run, argv)


if __name__ == "__main__":
    sys.exit(main())
