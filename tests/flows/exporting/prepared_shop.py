"""A dataset of three users whose keys and texts are hard to write: quotes, tabs, line breaks, words for missing."""

from pathlib import Path
from typing import Any

import yaml

from features import schema
from features.runtime.stage import Places
from features.store.tables import Provenance, from_rows, write_table

USERS = ("NA", 'the "best" buyer', "u3")
ITEMS = ("0007", "nan", "B3,C", "B4")
TITLES = ("A\ttab and a\nbreak", '"quoted" title', None, "NA")
MADE = Provenance(stage="test", params={})


def write(root: Path, *, timed: bool = True, rated: bool = True, name: str = "shop") -> Path:
    """Writes params.yaml and the tables of dataset `name` below `root`: three users with four items each."""
    entry = {"format": "amazon2014", "reviews": ["r.json"], "metadata": []}
    params = {"dataset": "other", "seed": 1, "datasets": {"other": entry, name: entry}}
    (root / "params.yaml").write_text(yaml.safe_dump(params), encoding="utf-8")
    places = Places(dataset=name, root=root)
    rows: list[tuple[schema.Table, list[dict[str, Any]]]] = [
        (schema.USERS, [
            {"user_id": n, "user_key": key, "name": "Ann", "number": n, "num_interactions": 4}
            for n, key in enumerate(USERS, 1)
        ]),
        (schema.CATALOGUE, [
            {"item_id": n, "item_key": key, "title": TITLES[n - 1], "brand": "Acme\r\nInc", "category": "Deep",
             "num_interactions": 3, "num_train": 2}
            for n, key in enumerate(ITEMS, 1)
        ]),
        (schema.ITEMS, [
            {"item_key": key, "categories": ["Toys & Games", "Deep"], "source": "m.json", "line": n, "price": 1.5}
            for n, key in enumerate(ITEMS[:3], 1)
        ]),
        (schema.INTERACTIONS, [
            {"user_id": user, "position": place + 1, "item_id": (user + place) % 4 + 1,
             "rating": 4.0 if rated else None, "timestamp": 1_400_000_000 + place if timed else None,
             "split": ("train", "train", "valid", "test")[place]}
            for user in (1, 2, 3)
            for place in range(4)
        ]),
    ]  # fmt: skip
    for table, values in rows:
        write_table(places.table(table.name), table, from_rows(table, values), MADE)
    return root
