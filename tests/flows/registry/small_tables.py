"""Small tables of one root, of which two are compared by the quality gate and by the drift report."""

from pathlib import Path
from typing import Any

from features import schema
from features.runtime.stage import Places
from features.store.tables import Provenance, from_rows, write_table

NUM_USERS = 200


def write_small_tables(
    root: Path, *, better: bool, shift: int = 0, more_users: int = 0, stars: float = 5.0, moved: float = 0.0
) -> Places:
    """Users 1 to NUM_USERS (and some more) who bought item 1, then 2; every second hit is ranked first if `better`.

    `shift` renumbers the items, which must not matter.
    """
    places, made = Places(dataset="d", root=root), Provenance(stage="x", params={})
    users = range(1, NUM_USERS + more_users + 1)
    number = {key: (key + shift - 1) % 4 + 1 for key in range(1, 5)}
    rows: dict[schema.Table, list[dict[str, Any]]] = {
        schema.USERS: [{"user_id": u, "user_key": f"U{u}", "number": u, "num_interactions": 3} for u in users],
        schema.CATALOGUE: [
            {"item_id": number[k], "item_key": f"B{k}", "num_interactions": 3, "num_train": 1} for k in number
        ],
        schema.INTERACTIONS: [
            {"user_id": u, "position": p, "item_id": number[p], "rating": stars, "split": split}
            for u in users
            for p, split in enumerate(("train", "valid", "test"), start=1)
        ],
        schema.PREDICTIONS: [
            {"user_id": u, "prompt_id": "A-3", "rank": rank, "item_id": number[key], "score": -float(rank)}
            for u in users
            for rank, key in enumerate((3, 4) if better or u % 2 else (4, 3), start=1)
        ],
    }
    for table, found in rows.items():
        write_table(places.table(table.name), table, from_rows(table, found), made)
    table = schema.embeddings(2)
    photos = [
        {"item_id": number[k], "embedding": [1.0 + moved, float(k)], "status": "missing" if k == 4 else "ok"}
        for k in number
    ]
    write_table(places.table("images/embeddings"), table, from_rows(table, photos), made)
    return places
